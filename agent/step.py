"""The record that travels from the gateway to the replay: blocks of steps, column by column.

A *step* is a frame with the action taken on it and what that earned; the next frame of its stream
completes it. A *final* row is the last observation of an episode or of a broken stream: it has no
action, is never sampled and never counted, and is there so that a truncated window can bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.masks import ALL_LEGAL
from protocol.spaces import GameSpec

STEP, FINAL = 1, 2
"""The kinds of row. Zero is no kind, so that a record that nobody wrote is refused."""


LATER: dict[str, np.generic] = {
    "recommended": np.float32(np.nan),
    "policy_version": np.uint32(0),
    "state": np.float16(0),
}
"""Columns that files of version 1 do not have, and what their rows read as."""


@dataclass(frozen=True, slots=True)
class StepBlock:
    """`n` rows, each column an array whose first axis is the row.

    Rows of one stream stand in the order of their `seq`; streams may be interleaved.
    """

    obs: npt.NDArray[Any]
    """Observations, the spec's dtype, [n, observation_size] (flat, C order)."""
    action: npt.NDArray[np.float32]
    """Action rows, [n, action_width] (see protocol.spaces). Zeros in a final row."""
    recommended: npt.NDArray[np.float32]
    """What the expert recommended for the frame, an action row as `action` is, [n, action_width];
    NaN where it recommended nothing, and in a final row. It does not say who acted."""
    reward: npt.NDArray[np.float32]
    """What the action earned: the weighted, clipped scalar, [n]. Zero in a final row."""
    stream: npt.NDArray[np.int64]
    """One slot's unbroken run of frames, [n]: session << 16 | slot."""
    seq: npt.NDArray[np.uint32]
    """The frame's number within its slot, [n]."""
    policy_version: npt.NDArray[np.uint32]
    """The weights that the gateway had when it decided the frame, [n]; 0: not known, and in a final
    row."""
    actor: npt.NDArray[np.uint8]
    """Who chose the action: protocol.actor.Actor, [n]. 0 in a final row, nowhere else."""
    kind: npt.NDArray[np.uint8]
    """STEP or FINAL, [n]."""
    status: npt.NDArray[np.uint8]
    """Of the frame that completed the step: 0 running, 1 terminated, 2 truncated, [n].
    0 in a final row."""
    legal: npt.NDArray[np.uint8]
    """Which choices were legal in the frame, packed (protocol.masks), [n, legal_bytes]: no bytes
    for a game without masks, whose files have no such column."""
    state: npt.NDArray[np.float16]
    """The network's recurrent state before the frame, [n, size]: no numbers for a network without a
    memory (`memory` below, LearnerConfig.state_size). Zeros in a final row."""

    def __len__(self) -> int:
        return len(self.reward)

    @staticmethod
    def of(columns: Mapping[str, npt.NDArray[Any]], memory: int = 0) -> StepBlock:
        """A block of these columns by name; others are ignored. Those of LATER may be missing, and
        `legal`, of a game without masks. KeyError where another one is."""
        n = len(columns["action"])
        shapes = {"recommended": columns["action"].shape, "policy_version": columns["seq"].shape}
        missing = {name: np.broadcast_to(LATER[name], shape) for name, shape in shapes.items()}
        missing |= {
            "legal": np.empty((n, 0), np.uint8),
            "state": np.zeros((n, memory), np.float16),
        }
        found = missing | dict(columns)
        return StepBlock(*(found[name] for name in StepBlock.__slots__))

    def rows(self, start: int, stop: int) -> StepBlock:
        """The rows start to stop, as views."""
        return StepBlock(*(getattr(self, name)[start:stop] for name in self.__slots__))

    @staticmethod
    def over(buffer: Any, spec: GameSpec, n: int, memory: int = 0) -> StepBlock:
        """A block of `n` rows laid over a buffer of at least `nbytes(spec, n, memory)` bytes."""
        arrays, offset = [], 0
        for dtype, shape in columns_of(spec, n, memory):
            count = int(np.prod(shape))
            arrays.append(np.frombuffer(buffer, dtype, count, offset).reshape(shape))
            offset += _aligned(count * dtype.itemsize)
        return StepBlock(*arrays)

    @staticmethod
    def empty(spec: GameSpec, n: int, memory: int = 0) -> StepBlock:
        """A block of `n` rows with memory of its own: zeroed, nothing is recommended, and
        everything is legal."""
        block = StepBlock.over(bytearray(StepBlock.nbytes(spec, n, memory)), spec, n, memory)
        block.recommended[:] = np.nan
        block.legal[:] = ALL_LEGAL
        return block

    @staticmethod
    def joined(blocks: Sequence[StepBlock]) -> StepBlock:
        """At least one block, as one: one after the other."""
        if len(blocks) == 1:
            return blocks[0]
        names = StepBlock.__slots__
        return StepBlock(*(np.concatenate([getattr(b, name) for b in blocks]) for name in names))

    @staticmethod
    def nbytes(spec: GameSpec, n: int, memory: int = 0) -> int:
        """The bytes that `n` rows take."""
        columns = columns_of(spec, n, memory)
        return sum(_aligned(int(np.prod(s)) * d.itemsize) for d, s in columns)


def columns_of(
    spec: GameSpec, n: int, memory: int = 0
) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
    """Dtype and shape of each column of `n` rows, in the order of StepBlock. `memory`: numbers of
    the network's recurrent state."""
    one = (n,)
    return [
        (spec.observation_dtype, (n, spec.observation_size)),
        (np.dtype(np.float32), (n, spec.action_width)),
        (np.dtype(np.float32), (n, spec.action_width)),
        (np.dtype(np.float32), one),
        (np.dtype(np.int64), one),
        (np.dtype(np.uint32), one),
        (np.dtype(np.uint32), one),
        (np.dtype(np.uint8), one),
        (np.dtype(np.uint8), one),
        (np.dtype(np.uint8), one),
        (np.dtype(np.uint8), (n, spec.legal_bytes)),
        (np.dtype(np.float16), (n, memory)),
    ]


def stored_columns(spec: GameSpec, memory: int = 0) -> list[str]:
    """The names of the columns that files of this game have, of a network with such a memory."""
    there = {"legal": bool(spec.masks), "state": memory > 0}
    return [name for name in StepBlock.__slots__ if there.get(name, True)]


def _aligned(nbytes: int) -> int:
    """Columns start on cache lines: the writer of one does not disturb the reader of another."""
    return (nbytes + 63) & ~63
