"""The format of the journal's files (agent.journal): where segments and blocks begin, what their
headers say, and whether their checksums are right.

The format in full is in docs/reliability.md.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from agent.step import STEP, StepBlock
from protocol.spaces import GameSpec

Int64s = npt.NDArray[np.int64]

SUFFIX = ".rows"

VERSION = 1
"""Of the format. A reader reads its own and all earlier ones."""

HEADER_BYTES = 48
"""Of a block."""

ALIGNED = 16
"""Bytes that everything in a segment is a multiple of: blocks may have a single row, so few."""

_SEGMENT = struct.Struct("<8sIII")  # magic, version, length and checksum of the spec
_SEGMENT_MAGIC = b"USTUDYRP"
_BLOCK = struct.Struct("<4sIQQQI")  # magic, rows, first, steps, bytes, checksum of the rows
_BLOCK_MAGIC = b"ROWS"
_CHECKSUM = struct.Struct("<I")  # of the header before it
_HEADERS = np.dtype(
    {
        "names": ["rows", "first", "steps", "nbytes", "of_rows", "of_header"],
        "formats": ["<u4", "<i8", "<i8", "<i8", "<u4", "<u4"],
        "offsets": [4, 8, 16, 24, 32, _BLOCK.size],
        "itemsize": HEADER_BYTES,
    }
)
"""The headers of many blocks at once."""


class JournalError(Exception):
    """A journal that cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run is."""

    rows: int = 0
    """Rows appended in the whole run, final rows included: the serial number of the next one."""
    steps: int = 0
    """Steps among them."""

    def behind(self, block: StepBlock) -> Position:
        """Where it is once these rows are appended."""
        steps = int(np.count_nonzero(block.kind == STEP))
        return Position(self.rows + len(block), self.steps + steps)


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that cannot be used."""

    path: Path
    start: int
    stop: int
    rows: int | None
    """Rows that were lost with them; None where that cannot be told."""
    at_end: bool = False
    """Whether nothing is behind them: then they may be still being written."""

    def __str__(self) -> str:
        lost = "an unknown number of" if self.rows is None else f"{self.rows}"
        return (
            f"{self.path}: bytes {self.start} to {self.stop} are damaged or incomplete; {lost} "
            "rows in them are dropped, all others are used"
        )


class Layout:
    """Where the columns of a block of rows are in its bytes: the widest numbers first, so that all
    are aligned without gaps."""

    def __init__(self, spec: GameSpec) -> None:
        like = StepBlock.empty(spec, 1)
        columns = [(name, getattr(like, name)) for name in StepBlock.__slots__]
        columns.sort(key=lambda column: -column[1].itemsize)
        self._columns = [(name, column.dtype, column.shape[1:]) for name, column in columns]
        self._row_bytes: int = sum(column.nbytes for _, column in columns)

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
            count = n * math.prod(shape)
            array = np.frombuffer(buffer, dtype, count, offset)
            arrays[name] = array.reshape(n, *shape)
            offset += array.nbytes
        return StepBlock(**arrays)

    def columns(self, blocks: npt.NDArray[Any], n: int) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """The columns of blocks of `n` rows each, of which `windows` has the bytes: of each the
        name, and the rows of all blocks, [blocks n, ...]."""
        offset = 0
        for name, dtype, shape in self._columns:
            nbytes = n * math.prod(shape) * dtype.itemsize
            column = blocks.view(np.uint8)[:, offset : offset + nbytes]
            yield name, column.view(dtype).reshape(len(blocks) * n, *shape)
            offset += nbytes


def segment_header(spec: GameSpec) -> bytes:
    """What a segment begins with."""
    text = msgspec.json.encode(spec)
    head = _SEGMENT.pack(_SEGMENT_MAGIC, VERSION, len(text), zlib.crc32(text)) + text
    return head.ljust(aligned(len(head)), b"\0")


def block_header(rows: int, at: Position, payload: memoryview) -> bytes:
    """What a block of these columns begins with, `at`: the run before it."""
    head = _BLOCK.pack(_BLOCK_MAGIC, rows, at.rows, at.steps, len(payload), zlib.crc32(payload))
    head += _CHECKSUM.pack(zlib.crc32(head))
    return head.ljust(HEADER_BYTES, b"\0")


def sound_blocks(
    path: Path, data: bytes, spec: GameSpec, layout: Layout, damages: list[Damage]
) -> Int64s:
    """The blocks of a segment that are whole; what is not is added to `damages`.

    Of each its rows, the rows and the steps of the run before it, and where its columns begin in
    the segment, int64 [blocks, 4]. Errors: JournalError for a segment of another game or of a newer
    version.
    """
    begin = check_segment(path, data, spec)
    if begin is not None and (found := _undamaged(data, begin, layout)) is not None:
        return found
    if begin is None:
        begin = next_block(data, 0)
        damages.append(Damage(path, 0, begin, None, begin == len(data)))
    blocks = list(_one_by_one(path, data, begin, layout, damages))
    return np.array(blocks, np.int64).reshape(-1, 4)


def _undamaged(data: bytes, begin: int, layout: Layout) -> Int64s | None:
    """The blocks from `begin` on, if there is nothing wrong anywhere; None where there is. Where
    blocks are small it takes a third of the time that they take one by one."""
    if len(data) % ALIGNED:
        return None
    # Where a header may be: columns, too, may hold what it begins with.
    words = np.frombuffer(data, "<u4")[:: ALIGNED // 4]
    at = np.flatnonzero(words == int.from_bytes(_BLOCK_MAGIC, "little")) * ALIGNED
    at = at[(at >= begin) & (at <= len(data) - HEADER_BYTES)]
    headers = windows(data, HEADER_BYTES)[at // ALIGNED].view(_HEADERS)[:, 0]
    rows, nbytes, starts = headers["rows"].astype(np.int64), headers["nbytes"], at + HEADER_BYTES
    ends = starts + nbytes
    expected = np.append(begin, ends)
    if not np.array_equal(np.append(at, len(data)), expected):
        return None
    if not np.array_equal(nbytes, layout.nbytes_of(rows)):
        return None
    view, crc32, checked = memoryview(data), zlib.crc32, _BLOCK.size
    bounds = zip(starts.tolist(), ends.tolist(), strict=True)
    of_rows = [crc32(view[start:end]) for start, end in bounds]
    of_headers = [crc32(data[start : start + checked]) for start in at.tolist()]
    right = np.array_equal(of_rows, headers["of_rows"])
    if not (right and np.array_equal(of_headers, headers["of_header"])):
        return None
    return np.stack((rows, headers["first"], headers["steps"], starts), axis=1)


def _one_by_one(
    path: Path, data: bytes, at: int, layout: Layout, damages: list[Damage]
) -> Iterator[tuple[int, int, int, int]]:
    view = memoryview(data)
    while at < len(data):
        header = read_block_header(data, at)
        if header is None:
            # Where the damage ends is told by the next header that is sound.
            end = next_block(data, at + ALIGNED)
            damages.append(Damage(path, at, end, None, end == len(data)))
            at = end
            continue
        rows, first, steps, nbytes, checksum = header
        start, end = at + HEADER_BYTES, at + HEADER_BYTES + nbytes
        payload = view[start:end]
        if nbytes == len(payload) == layout.nbytes(rows) and zlib.crc32(payload) == checksum:
            yield rows, first, steps, start
        else:
            end = min(end, len(data))
            damages.append(Damage(path, at, end, rows, end == len(data)))
        at = end


def windows(data: bytes, nbytes: int) -> npt.NDArray[Any]:
    """So many bytes, a multiple of ALIGNED, from each place on where something may begin: views of
    `data`, in units of ALIGNED bytes, [places, nbytes / ALIGNED]."""
    units = np.frombuffer(data, f"V{ALIGNED}", len(data) // ALIGNED)
    return np.lib.stride_tricks.sliding_window_view(units, nbytes // ALIGNED)


def check_segment(path: Path, data: bytes, spec: GameSpec) -> int | None:
    """Where the blocks begin; None where the header is damaged."""
    if len(data) < _SEGMENT.size:
        return None
    magic, version, length, checksum = _SEGMENT.unpack_from(data)
    if magic != _SEGMENT_MAGIC:
        return None
    if version > VERSION:
        raise JournalError(
            f"{path}: expected version {VERSION} or earlier of the replay's files, got {version}; "
            f"resume with the understudy that wrote it, or move {path.parent} away"
        )
    text = data[_SEGMENT.size : _SEGMENT.size + length]
    if zlib.crc32(text) != checksum:
        return None
    begin = aligned(_SEGMENT.size + length)
    # One without a row is of nothing: of a game that was never begun, say.
    if len(data) > begin and not _is_of(spec, text):
        got = " ".join(text.decode(errors="replace").split())
        raise JournalError(
            f"{path} holds rows of another game: expected {msgspec.json.encode(spec).decode()}, "
            f"got {got[:2000]}; start a new run, or move {path.parent} away"
        )
    return begin


def _is_of(spec: GameSpec, text: bytes) -> bool:
    """Whether a spec as JSON is this one. One that cannot be read is of a game with more to it."""
    try:
        return msgspec.json.decode(text, type=GameSpec) == spec
    except msgspec.DecodeError:
        return False


def read_block_header(data: bytes, at: int) -> tuple[int, int, int, int, int] | None:
    """Rows, rows and steps of the run before them, bytes and checksum of the block that begins
    there; None where none does."""
    if at + HEADER_BYTES > len(data):
        return None
    (checksum,) = _CHECKSUM.unpack_from(data, at + _BLOCK.size)
    if zlib.crc32(data[at : at + _BLOCK.size]) != checksum:
        return None
    magic, rows, first, steps, nbytes, of_rows = _BLOCK.unpack_from(data, at)
    if magic != _BLOCK_MAGIC:
        return None
    return rows, first, steps, nbytes, of_rows


def next_block(data: bytes, at: int) -> int:
    """Where the next sound header is; the end where there is none."""
    while (at := data.find(_BLOCK_MAGIC, at)) >= 0:
        if at % ALIGNED == 0 and read_block_header(data, at):
            return at
        at += 1
    return len(data)


def aligned(nbytes: int) -> int:
    """So many bytes, with what is behind them."""
    return -(-nbytes // ALIGNED) * ALIGNED
