"""The journal: the rows of the replay in files, written as they are appended.

    replay/
      000001.rows     segments, the oldest first; each a header and then blocks of rows
      000002.rows
      priorities.npz  what the rows' priorities were at the last checkpoint (prioritized replay)

A block is written behind the last one with a single call: a header of HEADER_BYTES, which says how
many rows there are and what their checksum is, and the columns of agent.step.StepBlock, the widest
numbers first and without gaps. The format in full is in docs/reliability.md. What was written is
the operating system's: a process that is killed loses nothing of it. A machine that stops may lose
the last half minute. Nothing is ever changed in place, so saving costs no time, and damage stays
local: a reader drops the block whose checksum differs, reports it, and continues behind it.

Segments go when all of their rows have left the replay. They are read without executing anything
in them.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from agent.files import written_whole
from agent.priority import SavedPriorities
from agent.step import STEP, StepBlock
from protocol.spaces import GameSpec

FOLDER = "replay"
SUFFIX = ".rows"
PRIORITIES = "priorities.npz"

VERSION = 1
"""Of the format. A reader reads its own and all earlier ones."""

HEADER_BYTES = 48
"""Of a block."""

_ALIGNED = 16
"""Bytes that everything in a segment is a multiple of: blocks may have a single row, so few."""

SEGMENT_BYTES = 64 * 2**20
"""A segment ends when it is longer, so that a reader can hold one."""

SEGMENT_PART = 16
"""A segment ends, too, when it holds this part of a full replay: at most so much more than that is
kept on the disk."""

SMALLEST_SEGMENT = 4096
"""Rows that a segment may hold at least, whatever part that is."""

_SEGMENT = struct.Struct("<8sIII")  # magic, version, length and checksum of the spec
_SEGMENT_MAGIC = b"USTUDYRP"
_BLOCK = struct.Struct("<4sIQQQI")  # magic, rows, first, steps, bytes, checksum of the rows
_BLOCK_MAGIC = b"ROWS"
_CHECKSUM = struct.Struct("<I")  # of the header before it


class JournalError(Exception):
    """A journal that cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run is."""

    rows: int = 0
    """Rows appended in the whole run, final rows included: the serial number of the next one."""
    steps: int = 0
    """Steps among them."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A block as it was written."""

    at: Position
    """Before it."""
    rows: StepBlock
    """Read only."""

    @property
    def end(self) -> Position:
        """Behind it."""
        steps = int(np.count_nonzero(self.rows.kind == STEP))
        return Position(self.at.rows + len(self.rows), self.at.steps + steps)


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


class _Layout:
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
        return _aligned(self.used(n))

    def over(self, buffer: bytearray | memoryview, n: int) -> StepBlock:
        """A block of `n` rows laid over a buffer of at least `nbytes(n)` bytes."""
        arrays, offset = {}, 0
        for name, dtype, shape in self._columns:
            count = n * math.prod(shape)
            array = np.frombuffer(buffer, dtype, count, offset)
            arrays[name] = array.reshape(n, *shape)
            offset += array.nbytes
        return StepBlock(**arrays)


class Journal:
    """Writes. One process at a time; it begins a segment of its own and changes no other. What no
    replay needs any more it removes when rows come."""

    def __init__(self, folder: Path, spec: GameSpec, capacity: int, at: Position) -> None:
        """Errors: OSError where a file cannot be made."""
        self.folder = folder
        self._spec = spec
        self._layout = _Layout(spec)
        self._capacity = capacity
        self._segment_rows = max(SMALLEST_SEGMENT, capacity // SEGMENT_PART)
        self.at = at
        """Behind what was appended last."""
        self._scratch = bytearray()
        self._file: int | None = None
        self._end = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._segments = _first_rows(folder, at.rows)
        self._begin_segment(at.rows)

    def append(self, block: StepBlock) -> None:
        """Write rows. Errors: OSError (a full disk, say): then these rows are not in the journal,
        and nothing else is harmed; `at` counts them all the same."""
        if not len(block):
            return
        before = self.at
        self._drop_old(before.rows)
        steps = before.steps + int(np.count_nonzero(block.kind == STEP))
        self.at = Position(before.rows + len(block), steps)
        # One that could not be begun, for want of room, is tried again here.
        if self._file is None or self._is_full(before.rows):
            self._begin_segment(before.rows)
        payload = self._laid_out(block)
        head = _BLOCK.pack(
            _BLOCK_MAGIC, len(block), before.rows, before.steps, len(payload), zlib.crc32(payload)
        )
        head += _CHECKSUM.pack(zlib.crc32(head))
        self._write(head.ljust(HEADER_BYTES, b"\0"), payload)

    def close(self) -> None:
        """Again has no effect."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _laid_out(self, block: StepBlock) -> memoryview:
        """The columns one behind the other, in memory that the next block uses again."""
        nbytes = self._layout.nbytes(len(block))
        if len(self._scratch) < nbytes:
            self._scratch = bytearray(nbytes)
        copy = self._layout.over(self._scratch, len(block))
        for name in StepBlock.__slots__:
            getattr(copy, name)[:] = getattr(block, name)
        padding = nbytes - self._layout.used(len(block))
        self._scratch[nbytes - padding : nbytes] = bytes(padding)
        return memoryview(self._scratch)[:nbytes]

    def _is_full(self, rows: int) -> bool:
        _, first = self._segments[-1]
        return self._end >= SEGMENT_BYTES or rows - first >= self._segment_rows

    def _begin_segment(self, first: int) -> None:
        self.close()
        number = int(self._segments[-1][0].stem) + 1 if self._segments else 1
        path = self.folder / f"{number:06d}{SUFFIX}"
        spec = msgspec.json.encode(self._spec)
        head = _SEGMENT.pack(_SEGMENT_MAGIC, VERSION, len(spec), zlib.crc32(spec)) + spec
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._end = 0
        self._segments.append((path, first))
        try:
            self._write(head.ljust(_aligned(len(head)), b"\0"))
        except OSError:
            # Not even the header: without a trace, so that the number is free.
            self.close()
            self._segments.pop()
            path.unlink(missing_ok=True)
            raise

    def _drop_old(self, now: int) -> None:
        """Delete the segments whose rows have all left the replay."""
        while len(self._segments) > 1 and self._segments[1][1] <= now - self._capacity:
            path, _ = self._segments.pop(0)
            path.unlink(missing_ok=True)

    def _write(self, *parts: bytes | memoryview) -> None:
        """Write at the end, whole or not at all."""
        assert self._file is not None
        left = [memoryview(part) for part in parts]
        at = self._end
        try:
            while left:
                written = os.pwritev(self._file, left, at)
                at += written
                while left and written >= len(left[0]):
                    written -= len(left.pop(0))
                if left:
                    left[0] = left[0][written:]
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end = at


def segments(folder: Path) -> list[Path]:
    """The segments in a folder, the oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []


def read(folder: Path, spec: GameSpec, damages: list[Damage]) -> Iterator[Stored]:
    """All blocks that are whole, in the order in which they were written; what is not is added to
    `damages` on the way.

    Errors: JournalError for a journal of another game or of a newer version; OSError.
    """
    for path in segments(folder):
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # a trainer that runs had no more need of it
            continue
        yield from _read_segment(path, data, spec, damages)


def write_priorities(folder: Path, saved: SavedPriorities) -> None:
    """Keep the priorities of a replay's rows. Errors: OSError."""
    with written_whole(folder / PRIORITIES) as file:
        np.savez(file, **saved._asdict())


def read_priorities(folder: Path) -> SavedPriorities | None:
    """What `write_priorities` kept; None where that is not there or damaged: then all rows are
    drawn as if they were new."""
    try:
        with (folder / PRIORITIES).open("rb") as file, np.load(file, allow_pickle=False) as found:
            saved = SavedPriorities(*(found[name] for name in SavedPriorities._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    columns = (saved.stream, saved.seq, saved.priority)
    fits = saved.stream.ndim == 1 and all(each.shape == saved.stream.shape for each in columns)
    fits &= [each.dtype for each in columns] == [np.int64, np.uint32, np.float32]
    return saved if fits and saved.largest.ndim == 0 else None


def _read_segment(
    path: Path, data: bytes, spec: GameSpec, damages: list[Damage]
) -> Iterator[Stored]:
    layout, view = _Layout(spec), memoryview(data)
    at = _check_segment(path, data, spec)
    if at is None:
        at = _next_block(data, 0)
        damages.append(Damage(path, 0, at, None, at == len(data)))
    while at < len(data):
        header = _block_header(data, at)
        if header is None:
            # Where the damage ends is told by the next header that is sound.
            end = _next_block(data, at + _ALIGNED)
            damages.append(Damage(path, at, end, None, end == len(data)))
            at = end
            continue
        rows, position, nbytes, checksum = header
        start, end = at + HEADER_BYTES, at + HEADER_BYTES + nbytes
        payload = view[start:end]
        if nbytes == len(payload) == layout.nbytes(rows) and zlib.crc32(payload) == checksum:
            yield Stored(position, layout.over(payload, rows))
        else:
            end = min(end, len(data))
            damages.append(Damage(path, at, end, rows, end == len(data)))
        at = end


def _check_segment(path: Path, data: bytes, spec: GameSpec) -> int | None:
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
    begin = _aligned(_SEGMENT.size + length)
    # One without a row is of nothing: of a game that was never begun, say.
    if len(data) > begin and not _is_of(spec, text):
        raise JournalError(
            f"{path} holds rows of another game: expected {msgspec.json.encode(spec).decode()}, "
            f"got {text.decode()}; start a new run, or move {path.parent} away"
        )
    return begin


def _is_of(spec: GameSpec, text: bytes) -> bool:
    """Whether a spec as JSON is this one. One that cannot be read is of a game with more to it."""
    try:
        return msgspec.json.decode(text, type=GameSpec) == spec
    except msgspec.DecodeError:
        return False


def _block_header(data: bytes, at: int) -> tuple[int, Position, int, int] | None:
    """Rows, position, bytes and checksum of the block that begins there; None where none does."""
    if at + HEADER_BYTES > len(data):
        return None
    (checksum,) = _CHECKSUM.unpack_from(data, at + _BLOCK.size)
    if zlib.crc32(data[at : at + _BLOCK.size]) != checksum:
        return None
    magic, rows, first, steps, nbytes, of_rows = _BLOCK.unpack_from(data, at)
    if magic != _BLOCK_MAGIC:
        return None
    return rows, Position(first, steps), nbytes, of_rows


def _next_block(data: bytes, at: int) -> int:
    """Where the next sound header is; the end where there is none."""
    while (at := data.find(_BLOCK_MAGIC, at)) >= 0:
        if at % _ALIGNED == 0 and _block_header(data, at):
            return at
        at += 1
    return len(data)


def _first_rows(folder: Path, now: int) -> list[tuple[Path, int]]:
    """The segments and the serial number of each one's first row, as its first sound block says;
    where it has none, that of the next segment, so that nothing is thought older than it is."""
    found, later = [], now
    for path in reversed(segments(folder)):
        with path.open("rb") as file:
            data = file.read(1 << 20)
        header = _block_header(data, _next_block(data, 0))
        later = header[1].rows if header else later
        found.append((path, later))
    return found[::-1]


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNED) * _ALIGNED
