"""The rows of a journal in large blocks, however small those are that they were written in.

A game that plays alone brings blocks of one row, a million of them in a full replay. Making arrays
over each, and appending each to the replay, would take as many times longer as there are rows. So
the checksums of each block are compared one by one, and its columns are copied together with those
of its neighbors of the same length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.journal import read_segments
from agent.journal_format import ORIGIN, Damage, Position, sound_blocks, windows
from agent.journal_layout import ALIGNED, Int64s, Layout
from agent.step import StepBlock
from protocol.spaces import GameSpec

TOGETHER = 4096
"""Rows that small blocks are joined to: many enough for the replay to take them in quickly, few
enough to stay in the processor's cache."""

SMALL = 64
"""Rows of a block below which arrays over it cost more than its copy."""


@dataclass(frozen=True, slots=True)
class JoinedRows:
    """Neighboring blocks of a journal as one."""

    at: Position
    """Before them."""
    rows: StepBlock
    """Read only, and only until the next ones are read."""
    origins: Int64s
    """Of each block: gateway, incarnation and first row, int64 [blocks, 3]."""
    lengths: Int64s
    """The rows of each block, [blocks]."""

    @property
    def end(self) -> Position:
        """Behind them."""
        return self.at.behind(self.rows)


def read_joined(
    folder: Path, spec: GameSpec, damages: list[Damage], memory: int = 0
) -> Iterator[JoinedRows]:
    """All rows of the blocks that are whole, in the order in which they were written, as
    `journal.read` has them, with recurrent states of `memory` numbers: zeros where the rows have
    none, or others.

    Errors: JournalError for a journal of another game or of a newer version; OSError.
    """
    scratch = StepBlock.empty(spec, TOGETHER, memory)
    for path, data in read_segments(folder):
        layout, found = sound_blocks(path, data, spec, damages, memory)
        for blocks in _neighbors(found):
            at = Position(int(blocks[0, 1]), int(blocks[0, 2]))
            rows = _joined(data, layout, blocks, scratch)
            yield JoinedRows(at, rows, blocks[:, ORIGIN], blocks[:, 0])


def _neighbors(blocks: Int64s) -> Iterator[Int64s]:
    """Parts of sound_blocks: those that follow each other without a gap, and have at most TOGETHER
    rows; or one."""
    first, ends = blocks[:, 1], blocks[:, 1] + blocks[:, 0]
    gaps = np.flatnonzero(first[1:] != ends[:-1]) + 1
    begin = 0
    for gap in [*gaps.tolist(), len(blocks)]:
        while begin < gap:
            fit = int(np.searchsorted(ends[begin:gap], first[begin] + TOGETHER, side="right"))
            yield blocks[begin : begin + max(fit, 1)]
            begin += max(fit, 1)


def _joined(data: bytes, layout: Layout, blocks: Int64s, scratch: StepBlock) -> StepBlock:
    """The rows of these blocks, one block behind the other, in `scratch`; of one, as they lie."""
    lengths, starts = blocks[:, 0], blocks[:, 3]
    if len(blocks) == 1:
        return layout.over(memoryview(data)[int(starts[0]) :], int(lengths[0]))
    places = blocks[:, 1] - blocks[0, 1]
    whole = scratch.rows(0, int(lengths.sum()))
    for length in np.unique(lengths).tolist():
        same = lengths == length
        if length < SMALL:
            _copy_small(data, layout, length, starts[same], places[same], whole)
            continue
        for start, place in zip(starts[same].tolist(), places[same].tolist(), strict=True):
            block = layout.over(memoryview(data)[start:], length)
            for name in StepBlock.__slots__:
                getattr(whole, name)[place : place + length] = getattr(block, name)
    return whole


def _copy_small(
    data: bytes, layout: Layout, length: int, starts: Int64s, places: Int64s, out: StepBlock
) -> None:
    """Copy blocks of `length` rows each, which lie from `starts` on, to the rows `places` and
    behind: all of them in one go."""
    at, wide = starts // ALIGNED, windows(data, layout.nbytes(length))
    apart = np.unique(np.diff(at))
    # Evenly spaced, as they are where all are of one length, they need not be copied together.
    even = len(apart) == 1
    found = wide[at[0] : at[-1] + 1 : int(apart[0])] if even else wide[at]
    rows: Int64s | slice = (places[:, None] + np.arange(length)).reshape(-1)
    if even and places[-1] - places[0] == (len(places) - 1) * length:
        rows = slice(int(places[0]), int(places[-1]) + length)
    layout.copy(found, length, out, rows)
