"""Links: which row of a stream follows which.

A row is known by its *serial number*, the count of rows that were appended before it. A link is
made from a step to the row with the next `seq` of the same stream, and only if

- the step ended as a running one, or the later row is its FINAL row: the first row of the next
  episode has the next `seq` too, and is not what the step led to;
- the step has not been overwritten meanwhile: its place belongs to another row by then.

A step whose successor never came (a gap in `seq`, a stream that vanished) stays without a link.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.step import STEP, StepBlock
from protocol.messages import RUNNING

Int64s = npt.NDArray[np.int64]

NONE = -1
"""The serial number of no row."""


@dataclass(frozen=True, slots=True)
class Links:
    """The links that a block of `n` rows makes."""

    next: Int64s
    """For each row of the block, the serial of the row that follows it, or NONE, [n]."""
    earlier: Int64s
    """Serials of rows of earlier blocks that a row of this block follows, [m]."""
    earlier_next: Int64s
    """The serials of those followers, [m]."""

    def previous(self, first: int) -> Int64s:
        """The links read backwards: for each row of the block, of which the first has the serial
        `first`, the serial of the row that it follows, or NONE, [n]."""
        previous = np.full(len(self.next), NONE, np.int64)
        linked = np.flatnonzero(self.next != NONE)
        previous[self.next[linked] - first] = first + linked
        previous[self.earlier_next - first] = self.earlier
        return previous


class StreamTable:
    """The newest step of each stream that is still open.

    Streams leave with their FINAL row, and at the latest when their newest step is overwritten,
    so the table stays small without being told which streams have vanished.
    """

    def __init__(self) -> None:
        self._stream: Int64s = np.empty(0, np.int64)
        self._seq: npt.NDArray[np.uint32] = np.empty(0, np.uint32)
        self._serial: Int64s = np.empty(0, np.int64)
        self._running: npt.NDArray[np.bool_] = np.empty(0, np.bool_)

    def __len__(self) -> int:
        return len(self._stream)

    def link(self, block: StepBlock, first: int, oldest: int) -> Links:
        """The links that a block makes; the table then stands behind the block.

        `first` is the serial of the block's first row, `oldest` the smallest serial that is not
        overwritten once the block is stored.
        """
        # The table is put before the block, as if its rows were the block's first. Sorted by
        # stream with order kept, each row then stands right before the one that may follow it.
        known, rows, earlier = len(self), len(block), self._serial
        stream = np.concatenate((self._stream, block.stream))
        seq = np.concatenate((self._seq, block.seq))
        serial = np.concatenate((self._serial, np.arange(first, first + rows)))
        running = np.concatenate((self._running, block.status == RUNNING))
        step = np.concatenate((np.ones(known, np.bool_), block.kind == STEP))

        order = np.argsort(stream, kind="stable")
        stream, seq, serial = stream[order], seq[order], serial[order]
        running, step = running[order], step[order]
        alive = serial >= oldest
        same = stream[:-1] == stream[1:]
        linked = (
            same & (seq[1:] - seq[:-1] == 1) & step[:-1] & (running[:-1] | ~step[1:]) & alive[:-1]
        )
        follower = np.full(known + rows, NONE, np.int64)
        follower[order[:-1][linked]] = serial[1:][linked]

        newest = np.append(~same, True) & step & alive
        self._stream, self._seq = stream[newest], seq[newest]
        self._serial, self._running = serial[newest], running[newest]
        has = follower[:known] != NONE
        return Links(follower[known:], earlier[has], follower[:known][has])
