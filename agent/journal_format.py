"""The format of the journal's files (agent.journal): where segments and blocks begin, what their
headers say, and whether their checksums are right.

The format in full is in docs/reliability.md.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from agent.journal_layout import ALIGNED, Column, Int64s, Layout, aligned, columns_written, fits
from agent.source import Origin, Source
from agent.step import STEP, StepBlock
from protocol.spaces import GameSpec

SUFFIX = ".rows"

VERSION = 2
"""Of the format. A reader reads its own and all earlier ones."""

_SEGMENT = struct.Struct("<8sIII")  # magic, version, length and checksum of the text behind it
_SEGMENT_MAGIC = b"USTUDYRP"
_CHECKSUM = struct.Struct("<I")  # of the header before it


class _Blocks:
    """What blocks begin with in a version."""

    def __init__(self, version: int, magic: bytes, more: str, nbytes: int) -> None:
        """`more`: what follows the fields that all versions have, for struct. `nbytes`: of the
        header."""
        self.version, self.magic, self.nbytes = version, magic, nbytes
        # Magic, rows, first, steps, bytes, checksum of the rows.
        self.head = struct.Struct("<4sIQQQI" + more)
        self.tells_origin = bool(more)
        fields = {
            "rows": ("<u4", 4),
            "first": ("<i8", 8),
            "steps": ("<i8", 16),
            "nbytes": ("<i8", 24),
            "of_rows": ("<u4", 32),
            "of_header": ("<u4", self.head.size),
        }
        if self.tells_origin:
            fields |= {"gateway": ("<u2", 36), "incarnation": ("<u4", 40), "row": ("<i8", 44)}
        self.headers = np.dtype(
            {
                "names": list(fields),
                "formats": [dtype for dtype, _ in fields.values()],
                "offsets": [offset for _, offset in fields.values()],
                "itemsize": nbytes,
            }
        )
        """The headers of many blocks at once."""


_V1 = _Blocks(1, b"ROWS", "", 48)
_V2 = _Blocks(2, b"ROW2", "H2xIQ", 64)
"""The 16 bytes tell where the rows came from (agent.source): gateway, incarnation, first row. Files
that were written before have zeros there: the source is not known."""

_VERSIONS = (_V1, _V2)

HEADER_BYTES = _V2.nbytes
"""Of a block, as it is written today."""


class _SegmentText(msgspec.Struct, frozen=True):
    """What a segment's header tells; version 1: the spec alone."""

    spec: GameSpec
    columns: list[Column]


class Segment(NamedTuple):
    """What a segment's header says."""

    begin: int
    """Where the blocks begin."""
    blocks: _Blocks
    layout: Layout


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


def segment_header(spec: GameSpec, memory: int = 0) -> bytes:
    """What a segment begins with. `memory`: numbers of the network's recurrent state."""
    text = msgspec.json.encode(_SegmentText(spec, columns_written(spec, VERSION, memory)))
    head = _SEGMENT.pack(_SEGMENT_MAGIC, VERSION, len(text), zlib.crc32(text)) + text
    return head.ljust(aligned(len(head)), b"\0")


class BlockHeader(NamedTuple):
    """What the header of a block says."""

    rows: int
    at: Position
    """The run before it."""
    nbytes: int
    checksum: int
    """Of its rows."""
    origin: Origin

    def row(self, start: int) -> BlockRow:
        """As sound_blocks has it. `start`: where the columns begin."""
        (gateway, incarnation), first = self.origin
        return self.rows, self.at.rows, self.at.steps, start, gateway, incarnation, first


BlockRow = tuple[int, int, int, int, int, int, int]

ORIGIN = slice(4, 7)
"""Of the columns of sound_blocks: gateway, incarnation, first row."""


def block_header(
    rows: int, at: Position, payload: Sequence[memoryview], origin: Origin | None = None
) -> bytes:
    """What a block of these columns begins with, whose bytes are `payload`, one part behind the
    other; `at`: the run before it. `origin`: None where nobody numbered the rows."""
    (gateway, incarnation), first = origin or Origin()
    checksum = 0
    for part in payload:
        checksum = zlib.crc32(part, checksum)
    nbytes = sum(part.nbytes for part in payload)
    counts = (rows, at.rows, at.steps, nbytes, checksum)
    head = _V2.head.pack(_V2.magic, *counts, gateway, incarnation, first)
    head += _CHECKSUM.pack(zlib.crc32(head))
    return head.ljust(_V2.nbytes, b"\0")


def sound_blocks(
    path: Path, data: bytes, spec: GameSpec, damages: list[Damage], memory: int = 0
) -> tuple[Layout, Int64s]:
    """The blocks of a segment that are whole, and where the columns lie in each; what is not is
    added to `damages`.

    Of each block its rows, the rows and the steps of the run before it, where its columns begin in
    the segment, and its origin: gateway, incarnation and first row, int64 [blocks, 7].

    Errors: JournalError for a segment of another game or of a newer version.
    """
    segment = check_segment(path, data, spec, memory)
    if segment is not None and (found := _undamaged(data, segment)) is not None:
        return segment.layout, found
    if segment is None:
        # Which version it is the blocks tell; that it has that version's columns is likely.
        begin, blocks = next_block(data, 0)
        damages.append(Damage(path, 0, begin, None, begin == len(data)))
        columns = columns_written(spec, blocks.version, memory)
        segment = Segment(begin, blocks, Layout(columns, spec, memory))
    whole = list(_one_by_one(path, data, segment, damages))
    return segment.layout, np.array(whole, np.int64).reshape(-1, 7)


def _undamaged(data: bytes, segment: Segment) -> Int64s | None:
    """The blocks from `begin` on, if there is nothing wrong anywhere; None where there is. Where
    blocks are small it takes a third of the time that they take one by one."""
    if len(data) % ALIGNED:
        return None
    # Where a header may be: columns, too, may hold what it begins with.
    begin, blocks, layout = segment
    words = np.frombuffer(data, "<u4")[:: ALIGNED // 4]
    at = np.flatnonzero(words == int.from_bytes(blocks.magic, "little")) * ALIGNED
    at = at[(at >= begin) & (at <= len(data) - blocks.nbytes)]
    headers = windows(data, blocks.nbytes)[at // ALIGNED].view(blocks.headers)[:, 0]
    rows, nbytes, starts = headers["rows"].astype(np.int64), headers["nbytes"], at + blocks.nbytes
    ends = starts + nbytes
    expected = np.append(begin, ends)
    if not np.array_equal(np.append(at, len(data)), expected):
        return None
    if not np.array_equal(nbytes, layout.nbytes_of(rows)):
        return None
    view, crc32, checked = memoryview(data), zlib.crc32, blocks.head.size
    bounds = zip(starts.tolist(), ends.tolist(), strict=True)
    of_rows = [crc32(view[start:end]) for start, end in bounds]
    of_headers = [crc32(data[start : start + checked]) for start in at.tolist()]
    right = np.array_equal(of_rows, headers["of_rows"])
    if not (right and np.array_equal(of_headers, headers["of_header"])):
        return None
    told = [rows, headers["first"], headers["steps"], starts]
    origin = ("gateway", "incarnation", "row") if blocks.tells_origin else ()
    told += [headers[name].astype(np.int64) for name in origin] or [np.zeros_like(rows)] * 3
    return np.stack(told, axis=1)


def _one_by_one(
    path: Path, data: bytes, segment: Segment, damages: list[Damage]
) -> Iterator[BlockRow]:
    at, blocks, layout = segment
    view = memoryview(data)
    while at < len(data):
        header = read_block_header(data, at, blocks)
        if header is None:
            # Where the damage ends is told by the next header that is sound.
            end = _next_block_of(data, at + ALIGNED, blocks)
            damages.append(Damage(path, at, end, None, end == len(data)))
            at = end
            continue
        rows, nbytes = header.rows, header.nbytes
        start, end = at + blocks.nbytes, at + blocks.nbytes + nbytes
        payload = view[start:end]
        sound = nbytes == len(payload) == layout.nbytes(rows)
        if sound and zlib.crc32(payload) == header.checksum:
            yield header.row(start)
        else:
            end = min(end, len(data))
            damages.append(Damage(path, at, end, rows, end == len(data)))
        at = end


def windows(data: bytes, nbytes: int) -> npt.NDArray[Any]:
    """So many bytes, a multiple of ALIGNED, from each place on where something may begin: views of
    `data`, in units of ALIGNED bytes, [places, nbytes / ALIGNED]."""
    units = np.frombuffer(data, f"V{ALIGNED}", len(data) // ALIGNED)
    return np.lib.stride_tricks.sliding_window_view(units, nbytes // ALIGNED)


def check_segment(path: Path, data: bytes, spec: GameSpec, memory: int = 0) -> Segment | None:
    """What the header says; None where it is damaged. Errors: JournalError."""
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
    columns = _columns_of(spec, text, version)
    # One without a row is of nothing: of a game that was never begun, say.
    if len(data) > begin and columns is None:
        got = " ".join(text.decode(errors="replace").split())
        raise JournalError(
            f"{path} holds rows of another game: expected {msgspec.json.encode(spec).decode()}, "
            f"got {got[:2000]}; start a new run, or move {path.parent} away"
        )
    return Segment(begin, _VERSIONS[version - 1], Layout(columns or [], spec, memory))


def _columns_of(spec: GameSpec, text: bytes, version: int) -> list[Column] | None:
    """The columns of a segment's rows; None where they are of another game. A text that cannot be
    read is of a game with more to it."""
    try:
        if version == 1:
            found = _SegmentText(msgspec.json.decode(text, type=GameSpec), columns_written(spec, 1))
        else:
            found = msgspec.json.decode(text, type=_SegmentText)
        same = found.spec == spec and fits(found.columns, spec)
    except (msgspec.DecodeError, TypeError):  # TypeError: numpy does not know the dtype
        return None
    return found.columns if same else None


def read_block_header(data: bytes, at: int, blocks: _Blocks) -> BlockHeader | None:
    """Of the block that begins there; None where none does."""
    if at + blocks.nbytes > len(data):
        return None
    checked = blocks.head.size
    (checksum,) = _CHECKSUM.unpack_from(data, at + checked)
    if zlib.crc32(data[at : at + checked]) != checksum:
        return None
    magic, rows, first, steps, nbytes, of_rows, *told = blocks.head.unpack_from(data, at)
    if magic != blocks.magic:
        return None
    origin = Origin(Source(*told[:2]), told[2]) if blocks.tells_origin else Origin()
    return BlockHeader(rows, Position(first, steps), nbytes, of_rows, origin)


def next_block(data: bytes, at: int) -> tuple[int, _Blocks]:
    """Where the next sound header is, of whatever version, and which that is; the end where there
    is none."""
    found = [(_next_block_of(data, at, blocks), -blocks.version) for blocks in _VERSIONS]
    begin, version = min(found)
    return begin, _VERSIONS[-version - 1]


def _next_block_of(data: bytes, at: int, blocks: _Blocks) -> int:
    while (at := data.find(blocks.magic, at)) >= 0:
        if at % ALIGNED == 0 and read_block_header(data, at, blocks):
            return at
        at += 1
    return len(data)
