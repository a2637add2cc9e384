"""Where the columns of rows lie in a block of the journal (agent.journal_format)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.step import LATER, StepBlock, columns_of, stored_columns
from protocol.spaces import GameSpec

Int64s = npt.NDArray[np.int64]

Column = tuple[str, str, tuple[int, ...]]
"""Name, dtype as numpy writes it ("<f4"), shape of a row."""

ALIGNED = 16
"""Bytes that everything in a segment is a multiple of: blocks may have a single row, so few."""


def aligned(nbytes: int) -> int:
    """So many bytes, with what is behind them."""
    return -(-nbytes // ALIGNED) * ALIGNED


def columns_written(spec: GameSpec, version: int, memory: int = 0) -> list[Column]:
    """The columns that a journal of this version has, in their order: the widest numbers first, so
    that all are aligned without gaps. `memory`: numbers of the network's recurrent state."""
    stored = stored_columns(spec, memory)
    columns = [
        (name, dtype.str, shape[1:])
        for name, (dtype, shape) in zip(
            StepBlock.__slots__, columns_of(spec, 1, memory), strict=True
        )
        if (version > 1 or name not in LATER) and name in stored
    ]
    return sorted(columns, key=lambda column: -np.dtype(column[1]).itemsize)


class Layout:
    """Where they are, of `n` rows. Columns that StepBlock does not have are passed over, as are
    states of another size than `memory`, and those of LATER that are missing read as agent.step
    says. Records of several observations are bytes in
    the list; what they are records of the game says."""

    def __init__(self, columns: Sequence[Column], spec: GameSpec, memory: int = 0) -> None:
        self._memory = memory
        self._columns = [
            (
                "another's state" if name == "state" and shape != (memory,) else name,
                spec.observation_dtype if name == "obs" else np.dtype(dtype),
                shape,
            )
            for name, dtype, shape in columns
        ]
        self._row_bytes = sum(dtype.itemsize * math.prod(s) for _, dtype, s in self._columns)
        names = {name for name, _, _ in self._columns}
        self._missing = [name for name in LATER if name not in names]

    def used(self, n: int) -> int:
        """Bytes of `n` rows without what is behind them."""
        return n * self._row_bytes

    def nbytes(self, n: int) -> int:
        """Bytes of `n` rows."""
        return aligned(self.used(n))

    def nbytes_of(self, rows: Int64s) -> Int64s:
        """The same for many blocks, [blocks]."""
        return -(-rows * self._row_bytes // ALIGNED) * ALIGNED

    def over(self, buffer: bytearray | memoryview, n: int) -> StepBlock:
        """A block of `n` rows laid over a buffer of at least `nbytes(n)` bytes."""
        arrays, offset = {}, 0
        for name, dtype, shape in self._columns:
            array = np.frombuffer(buffer, dtype, n * math.prod(shape), offset)
            arrays[name] = array.reshape(n, *shape)
            offset += array.nbytes
        return StepBlock.of(arrays, self._memory)

    def parts(self, block: StepBlock) -> list[memoryview]:
        """The bytes of these rows as they lie in a block, one part behind the other: the columns
        themselves, not copies, where they lie as they do in a file."""
        parts = []
        for name, dtype, _ in self._columns:
            column = np.ascontiguousarray(getattr(block, name), dtype)
            parts.append(column.reshape(-1).view(np.uint8).data)
        used = self.used(len(block))
        if used != sum(part.nbytes for part in parts):
            raise ValueError(f"expected {used} bytes of {len(block)} rows, as their game has them")
        return [*parts, memoryview(bytes(self.nbytes(len(block)) - used))]

    def copy(self, blocks: npt.NDArray[Any], n: int, out: StepBlock, rows: Int64s | slice) -> None:
        """Copy blocks of `n` rows each to these rows of `out`. `blocks` [blocks, nbytes(n) in units
        of ALIGNED] has their bytes."""
        offset = 0
        for name, dtype, shape in self._columns:
            nbytes = n * math.prod(shape) * dtype.itemsize
            if name in StepBlock.__slots__:
                column = blocks.view(np.uint8)[:, offset : offset + nbytes].view(dtype)
                getattr(out, name)[rows] = column.reshape(len(blocks) * n, *shape)
            offset += nbytes
        for name in self._missing:
            getattr(out, name)[rows] = LATER[name]


def fits(columns: Sequence[Column], spec: GameSpec) -> bool:
    """Whether rows of these columns are rows of this game: those of StepBlock as it has them, all
    but those of LATER, and others that can be passed over."""
    names = [name for name, _, _ in columns]
    known = [column for column in columns if column[0] in StepBlock.__slots__]
    wanted = columns_written(spec, 2)
    states = {column for column in known if column[0] == "state"}
    return (
        len(set(names)) == len(names)
        and set(known) <= set(wanted) | states
        and all(dtype == "<f2" and len(shape) == 1 for _, dtype, shape in states)
        and {name for name, _, _ in wanted} <= {*names, *LATER}
        and all(np.dtype(dtype).kind in "biuf" or name == "obs" for name, dtype, _ in columns)
        and all(side >= 0 for _, _, shape in columns for side in shape)
    )
