"""How much memory a game takes: computed from its spec and the settings, before any is taken."""

from __future__ import annotations

from collections import defaultdict

from agent.device_name import device_name
from agent.looks import Look, looks
from agent.memory_limits import memory_bytes
from agent.step import StepBlock
from config.models import Config
from protocol.spaces import GameSpec

_VECTORS = 10
"""Times that the trainer and the weight slot hold all parameters: network, target network, two
moments of Adam, each actor's gradient, two buffers of the slot, and copies on the way there."""

_DEVICE_VECTORS = 4
"""Of these, what is on the trainer's device before the first update."""

_PROCESS = 2**28
"""Bytes of a cuda device that each further process takes there, whatever it does, at least."""

_OUTPUTS = 8
"""Times that a batch's outputs are held in an update: as they come, as Q, and their gradients."""


def most_game_bytes(config: Config) -> int:
    """How much memory a game may take: what the operator allows, or all that this process may
    have."""
    return config.server.max_game_bytes or memory_bytes()


def game_bytes(spec: GameSpec, config: Config) -> dict[str, int]:
    """What a game takes at most of the machine's memory once its replay is full, in bytes, by the
    setting that it can be lowered with."""
    gateways = config.server.gateways
    parameters, outputs, each_network = _network(spec, config)
    network = 4 * (parameters * (_VECTORS + 2 * gateways) + each_network * (2 + gateways))
    inputs = sum(numbers for _, numbers in _seen(spec, config))
    batch = 4 * config.learner.batch_size * (_OUTPUTS * outputs + 3 * inputs)
    found = {
        "server.ring_steps": gateways * StepBlock.nbytes(spec, config.server.ring_steps),
        "learner.hidden": network,
        "learner.batch_size": batch,
    }
    if _devices(config)[1] == "cpu":
        found["replay.capacity_steps"] = StepBlock.nbytes(spec, config.replay.capacity_steps)
    return found


def device_bytes(spec: GameSpec, config: Config) -> dict[str, dict[str, int]]:
    """What a game takes at least of each cuda device before its first update, in bytes, by the
    device's name and the setting that it can be lowered with. The replay is taken whole, at
    once."""
    trains, stores = _devices(config)
    acts = device_name(config.server.device, "server.device")
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    if stores != "cpu":
        found[stores]["replay.capacity_steps"] = StepBlock.nbytes(
            spec, config.replay.capacity_steps
        )
    parameters, _, each_network = _network(spec, config)
    if trains != "cpu":
        found[trains]["learner.hidden"] = 4 * (_DEVICE_VECTORS * parameters + 2 * each_network)
    if acts != "cpu":
        each = 4 * (parameters + each_network) + _PROCESS
        found[acts]["server.gateways"] = config.server.gateways * each
    return dict(found)


def shown(count: int) -> str:
    """So many bytes, in a unit that suits them."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 10_240:
            return f"{count:,} {unit}" if unit == "bytes" else f"{count:,.0f} {unit}"
        count //= 1024
    return f"{count:,} TiB"


def _devices(config: Config) -> tuple[str, str]:
    """Where the trainer computes, and where the replay is."""
    stores = config.replay.device
    if stores == "auto":
        stores = config.trainer.device
    return (
        device_name(config.trainer.device, "trainer.device"),
        device_name(stores, "replay.device"),
    )


def _seen(spec: GameSpec, config: Config) -> list[tuple[Look, int]]:
    """How each observation is looked at, and how many numbers that is at first."""
    return [
        (look, max(look.elements, sum(look.observation.choices) * look.stack))
        for look in looks(spec, config.learner, config.replay.frame_stack)
    ]


def _network(spec: GameSpec, config: Config) -> tuple[int, int, int]:
    """Of a network at most: parameters; outputs; elements of the matrices that say which choice is
    of which branch."""
    learner = config.learner
    branches = len(spec.discrete)
    choices = sum(head.n for head in spec.discrete)
    columns = len(spec.continuous_columns)
    if learner.continuous == "bins":
        branches, choices = branches + columns, choices + columns * learner.bins
    atoms = 1 if learner.value == "scalar" else learner.atoms
    # Behind convolutions there are fewer inputs than pixels, and they have few weights themselves.
    inputs = sum(
        min(numbers, 4096) if look.through == "convolutions" else numbers
        for look, numbers in _seen(spec, config)
    )
    widths = (inputs, *learner.hidden)
    trunk = sum((a + 1) * b for a, b in zip(widths, learner.hidden, strict=False))
    outputs = atoms * (1 + choices) + columns
    return 2 * trunk + (learner.hidden[-1] + 1) * outputs, outputs, 3 * choices * branches
