"""Games, blocks and fakes that the tests of the server share."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.step import FINAL, STEP, StepBlock, stored_columns
from protocol.actor import Actor
from protocol.spaces import Continuous, Discrete, GameSpec, Observation

SPEC = GameSpec(
    "test",
    Observation("float32", (3,)),
    (Discrete("fire", 4), Continuous("aim", -1.0, 1.0, 2)),
).checked()
"""Three floats to see, a choice of four and two numbers to do."""

PIXELS = GameSpec("pixels", Observation("uint8", (2, 3)), (Discrete("fire", 4),)).checked()


def numbered(spec: GameSpec, first: int, n: int, seed: int = 0) -> StepBlock:
    """Rows in which every column tells the row's number, steps and final rows mixed."""
    block = StepBlock.empty(spec, n)
    rng = np.random.default_rng([seed, first, n])
    numbers = np.arange(first, first + n)
    block.obs[:] = numbers[:, None] % 251
    block.action[:] = numbers[:, None]
    block.recommended[:] = np.where(numbers[:, None] % 3 > 0, numbers[:, None] % 5, np.nan)
    block.reward[:] = numbers
    block.stream[:] = numbers << 20
    block.seq[:] = numbers
    block.policy_version[:] = numbers % 7
    block.kind[:] = np.where(rng.random(n) < 0.8, STEP, FINAL)
    block.actor[:] = np.where(block.kind == STEP, rng.integers(1, 3, n), 0)
    block.status[:] = numbers % 3
    return block


def copied(block: StepBlock) -> StepBlock:
    return StepBlock(*(np.array(getattr(block, name)) for name in StepBlock.__slots__))


def joined(blocks: list[StepBlock], spec: GameSpec) -> StepBlock:
    """Blocks one after the other as one."""
    blocks = blocks or [StepBlock.empty(spec, 0)]
    return StepBlock(
        *(np.concatenate([getattr(b, name) for b in blocks]) for name in StepBlock.__slots__)
    )


def assert_same_rows(got: StepBlock, expected: StepBlock) -> None:
    for name in StepBlock.__slots__:
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), name)


class ListSink:
    """A StepSink that keeps what it is given, and has as much room as it is told."""

    def __init__(self, room: int = 10**9) -> None:
        self.free = room
        self.answered = 0
        self.blocks: list[StepBlock] = []

    def write(self, block: StepBlock) -> None:
        assert len(block) <= self.free, "more rows than there is room for"
        self.free -= len(block)
        self.blocks.append(copied(block))

    def rows(self, spec: GameSpec = SPEC) -> list[dict[str, Any]]:
        """All rows in order, each as a table of plain values; `recommended` is None for nothing."""
        block = joined(self.blocks, spec)
        found = [
            {name: getattr(block, name)[i].tolist() for name in stored_columns(spec)}
            for i in range(len(block))
        ]
        for row in found:
            if np.isnan(row["recommended"]).all():
                row["recommended"] = None
        return found


class FixedPolicy:
    """A policy that always wants the same."""

    def __init__(self, action: tuple[float, ...] = (2, 0.25, -0.5)) -> None:
        self.version = 7
        self.action = np.array(action, np.float32)
        self.batches: deque[int] = deque()
        self.asked: npt.NDArray[Any] = np.empty(0)
        """The observations that it was asked about last."""

    def greedy(self, obs: npt.NDArray[Any], _legal: Any = None) -> npt.NDArray[np.float32]:
        self.batches.append(len(obs))
        self.asked = obs.copy()
        return np.tile(self.action, (len(obs), 1))


DQN, EXPERT = int(Actor.DQN), int(Actor.EXPERT)
