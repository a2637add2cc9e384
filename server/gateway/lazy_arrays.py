"""Memory that is there once it is touched: arrays with room for as many rows as there may ever be.

The system provides them page by page, when a row is first written. So a crowd that connects costs
no copying of what is there, in which all games would wait, and memory is given back in place.
"""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt


class LazyArrays:
    """Arrays of `rows` rows, zero until they are written."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._parts: list[tuple[mmap.mmap, int]] = []
        """The memory of each array, and how long a row of it is, in bytes."""

    def array(self, dtype: npt.DTypeLike, *shape: int) -> npt.NDArray[Any]:
        """Another array, [rows, *shape]."""
        kind = np.dtype(dtype)
        row_bytes = kind.itemsize * math.prod(shape)
        memory = reserved(self.rows * row_bytes)
        self._parts.append((memory, row_bytes))
        count = self.rows * math.prod(shape)
        return np.frombuffer(memory, kind, count).reshape(self.rows, *shape)

    @property
    def row_bytes(self) -> int:
        """What a row takes in all arrays together."""
        return sum(row_bytes for _, row_bytes in self._parts)

    def give_back(self, start: int) -> None:
        """Nobody needs the rows from `start` on for now: their memory goes back to the system."""
        for memory, row_bytes in self._parts:
            give_back(memory, start * row_bytes)


def reserved(nbytes: int) -> mmap.mmap:
    """So many zero bytes, none of which takes memory before it is written."""
    memory = mmap.mmap(-1, max(1, nbytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        # Pages of 2 MiB take long to clear, and are far more than a few games need.
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


def give_back(memory: mmap.mmap, start: int = 0) -> None:
    """What is at `start` bytes and behind may be forgotten, where the system can do that. On Linux
    it is zero again."""
    start = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    if start < len(memory) and hasattr(mmap, "MADV_DONTNEED"):
        memory.madvise(mmap.MADV_DONTNEED, start)
