"""How much memory a game takes here, before any of it is taken: whoever connects first says what
the game is, and must not be able to bring the server down with it."""

from __future__ import annotations

import os
from pathlib import Path

from agent.device_name import device_name
from agent.pictures import is_picture
from agent.step import StepBlock
from config.models import Config
from protocol.spaces import GameSpec
from server.gateway.slot_memory import slot_bytes

_CGROUP = Path("/sys/fs/cgroup/memory.max")

_VECTORS = 10
"""Times that the trainer and the weight slot hold all parameters: network, target network, two
moments of Adam, each actor's gradient, two buffers of the slot, and copies on the way there."""

_OUTPUTS = 8
"""Times that a batch's outputs are held in an update: as they come, as Q, and their gradients."""


def memory_bytes() -> int:
    """The memory of this machine, or what the container may have of it."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return machine


def game_bytes(spec: GameSpec, config: Config) -> dict[str, int]:
    """What a game takes at most once its replay is full, in bytes, by the setting that it can be
    lowered with. Computed from the spec alone; nothing is allocated."""
    learner, stack = config.learner, config.replay.frame_stack
    gateways = config.server.gateways
    branches = len(spec.discrete)
    choices = sum(head.n for head in spec.discrete)
    columns = len(spec.continuous_columns)
    if learner.continuous == "bins":
        branches, choices = branches + columns, choices + columns * learner.bins
    atoms = 1 if learner.value == "scalar" else learner.atoms
    inputs = stack * spec.observation_size
    pictures = learner.trunk == "auto" and is_picture(spec.observation)
    # Behind convolutions there are fewer inputs than pixels, and they have few weights themselves.
    widths = (min(inputs, 4096) if pictures else inputs, *learner.hidden)
    trunk = sum((a + 1) * b for a, b in zip(widths, learner.hidden, strict=False))
    outputs = atoms * (1 + choices) + columns
    parameters = 2 * trunk + (learner.hidden[-1] + 1) * outputs
    each_network = 3 * choices * branches  # which choice is of which branch, as matrices
    network = 4 * (parameters * (_VECTORS + 2 * gateways) + each_network * (2 + gateways))
    batch = 4 * learner.batch_size * (_OUTPUTS * outputs + 3 * inputs)
    found = {
        "server.ring_steps": gateways * StepBlock.nbytes(spec, config.server.ring_steps),
        "learner.hidden": network,
        "learner.batch_size": batch,
    }
    store = config.replay.device
    if store == "auto":
        store = config.trainer.device
    if device_name(store, "replay.device") == "cpu":
        found["replay.capacity_steps"] = StepBlock.nbytes(spec, config.replay.capacity_steps)
    return found


def refusal(spec: GameSpec, config: Config) -> str | None:
    """Why the server cannot take on this game, if it cannot: a text for whoever proposed it."""
    limit = config.server.max_game_bytes or memory_bytes()
    parts = game_bytes(spec, config)
    total = sum(parts.values())
    if total > limit:
        largest = max(parts, key=lambda name: parts[name])
        return (
            f"expected a game that takes at most {_shown(limit)} here, got one that takes "
            f"{_shown(total)}: an observation of {spec.observation_bytes:,} bytes, "
            f"{spec.action_width:,} columns of actions; the most of it, {_shown(parts[largest])}, "
            f"is that of {largest}, which the server's operator may lower, or raise "
            "server.max_game_bytes"
        )
    each, most = slot_bytes(spec, config.replay.frame_stack), config.server.max_slot_bytes
    if each > most:
        return (
            f"expected a game that takes at most {_shown(most)} for each slot here, got one that "
            f"takes {_shown(each)}; the server's operator may raise server.max_slot_bytes"
        )
    return None


def _shown(count: int) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 10_240:
            return f"{count:,} {unit}" if unit == "bytes" else f"{count:,.0f} {unit}"
        count //= 1024
    return f"{count:,} TiB"
