"""How much memory a game takes: computed from its spec and the settings, before any is taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from agent.device_name import device_name
from agent.looks import ONE_HOT, WIDTH, Look, hidden_layers, looks
from agent.memory_limits import free_bytes, memory_bytes
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

_GATES = 16
"""Numbers that each unit of a memory has in a step: its gates, and what their gradients need."""


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
    inputs = sum(numbers for _, numbers, _ in _seen(spec, config))
    learner, memory = config.learner, config.learner.state_size
    each = _OUTPUTS * outputs + 3 * inputs
    if memory:  # what led to each row, and what its gradient needs of each step
        led = learner.memory_burn_in + learner.memory_unroll + learner.n_step
        each += led * (2 * inputs + _GATES * memory)
    batch = 4 * learner.batch_size * each
    found = {
        "server.ring_steps": gateways * StepBlock.nbytes(spec, config.server.ring_steps, memory),
        "learner.hidden": network,
        "learner.batch_size": batch,
    }
    if _devices(config)[1] == "cpu":
        found["replay.capacity_steps"] = config.replay.capacity_steps * step_bytes(spec, config)
    return found


def step_bytes(spec: GameSpec, config: Config) -> int:
    """What the replay takes for each step, indexes included."""
    # Actions taken and recommended, meta, stream, seq, version, tag, places: docs/design.md.
    found = spec.observation_bytes + 8 * spec.action_width + 16 + 16 + 9
    memory = config.learner.state_size
    linked = memory > 0 or config.replay.frame_stack > 1
    return found + 9 * config.replay.prioritized + 8 * linked + 2 * memory


def fitted(
    spec: GameSpec, config: Config, memory_of: Callable[[str], tuple[int, int]] | None = None
) -> Config:
    """The configuration with as many steps of replay as fit into its share of the memory that is
    free, at most those that were asked for, and as many as training begins with at least.
    `memory_of`: free and all bytes of a cuda device; None: nobody knows."""
    stores = _devices(config)[1]
    if stores == "cpu":
        others = game_bytes(spec, config)
        del others["replay.capacity_steps"]
        left = most_game_bytes(config) - sum(others.values())
        room = min(int(config.replay.memory_share * free_bytes()), left)
    elif memory_of is not None:
        room = int(config.replay.memory_share * memory_of(stores)[0])
    else:
        return config
    asked, least = config.replay.capacity_steps, max(config.trainer.min_steps, 2)
    steps = max(min(asked, room // step_bytes(spec, config)), min(asked, least))
    replay = config.replay.model_copy(update={"capacity_steps": steps})
    return config.model_copy(update={"replay": replay})


def device_bytes(spec: GameSpec, config: Config) -> dict[str, dict[str, int]]:
    """What a game takes at least of each cuda device before its first update, in bytes, by the
    device's name and the setting that it can be lowered with. The replay is taken whole, at
    once."""
    trains, stores = _devices(config)
    acts = device_name(config.server.device, "server.device")
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    if stores != "cpu":
        found[stores]["replay.capacity_steps"] = config.replay.capacity_steps * step_bytes(
            spec, config
        )
    parameters, _, each_network = _network(spec, config)
    if trains != "cpu":
        found[trains]["learner.hidden"] = 4 * (_DEVICE_VECTORS * parameters + 2 * each_network)
    if acts != "cpu":
        each = 4 * (parameters + each_network) + _PROCESS
        found[acts]["server.gateways"] = config.server.gateways * each
    return dict(found)


def to_lower(setting: str, config: Config) -> str:
    """The settings that take less if they are lowered, where this one is what takes the most. A
    replay holds what training begins with, whatever it may hold at most. `config`: as `fitted`."""
    least = config.trainer.min_steps
    if setting == "replay.capacity_steps" and config.replay.capacity_steps <= least:
        return f"{setting} and trainer.min_steps ({least:,})"
    return setting


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


def _seen(spec: GameSpec, config: Config) -> list[tuple[Look, int, int]]:
    """How each observation is looked at, how many numbers that is at first, and how many parameters
    an embedding of it has."""
    found = []
    for look in looks(spec, config.learner, config.replay.frame_stack):
        choices = sum(look.observation.choices) * look.stack
        if choices > ONE_HOT:
            found.append((look, look.elements * WIDTH, choices * WIDTH))
        else:
            found.append((look, max(look.elements, choices), 0))
    return found


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
    seen = _seen(spec, config)
    inputs = sum(
        min(numbers, 4096) if look.through == "convolutions" else numbers
        for look, numbers, _ in seen
    )
    embedded = sum(parameters for _, _, parameters in seen)
    memory = learner.state_size
    remembers = 3 * memory * (inputs + memory + 2)
    hidden = hidden_layers(learner, inputs + memory)
    trunk = sum((a + 1) * b for a, b in zip((inputs + memory, *hidden), hidden, strict=False))
    outputs = atoms * (1 + choices) + columns
    return (
        embedded + remembers + 2 * trunk + (hidden[-1] + 1) * outputs,
        outputs,
        3 * choices * branches,
    )
