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

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent import npz
from agent.files import written_whole
from agent.journal_format import (
    HEADER_BYTES,
    ORIGIN,
    SUFFIX,
    VERSION,
    Damage,
    JournalError,
    Position,
    block_header,
    next_block,
    read_block_header,
    segment_header,
    sound_blocks,
)
from agent.journal_layout import Layout, columns_written
from agent.priority import SavedPriorities
from agent.source import NextRows, Origin, Source
from agent.step import StepBlock
from protocol.spaces import GameSpec

__all__ = ["HEADER_BYTES", "VERSION", "Damage", "Journal", "JournalError", "Position", "Stored"]

FOLDER = "replay"
PRIORITIES = "priorities.npz"

SEGMENT_BYTES = 64 * 2**20
"""A segment ends when it is longer, so that a reader can hold one."""

SEGMENT_PART = 16
"""A segment ends, too, when it holds this part of a full replay: at most so much more than that is
kept on the disk."""

SMALLEST_SEGMENT = 4096
"""Rows that a segment may hold at least, whatever part that is."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A block as it was written."""

    at: Position
    """Before it."""
    rows: StepBlock
    """Read only."""
    origin: Origin

    @property
    def end(self) -> Position:
        """Behind it."""
        return self.at.behind(self.rows)


class Journal:
    """Writes. One process at a time; it begins a segment of its own and changes no other. What no
    replay needs any more it removes when rows come."""

    def __init__(
        self, folder: Path, spec: GameSpec, capacity: int, at: Position, memory: int = 0
    ) -> None:
        """`memory`: numbers of the network's recurrent state. Errors: OSError where a file cannot
        be made."""
        self.folder = folder
        self._spec, self._memory = spec, memory
        self._layout = Layout(columns_written(spec, VERSION, memory), spec, memory)
        self._capacity = capacity
        self._segment_rows = max(SMALLEST_SEGMENT, capacity // SEGMENT_PART)
        self.at = at
        """Behind what was appended last."""
        self._file: int | None = None
        self._end = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._segments = _first_rows(folder, at.rows)
        self._begin_segment(at.rows)

    def append(self, block: StepBlock, origin: Origin | None = None) -> None:
        """Write rows, which come from there. Errors: OSError (a full disk, say): then these rows
        are not in the journal, and nothing else is harmed; `at` counts them all the same."""
        if not len(block):
            return
        before = self.at
        self._drop_old(before.rows)
        self.at = before.behind(block)
        # One that could not be begun, for want of room, is tried again here.
        if self._file is None or self._is_full(before.rows):
            self._begin_segment(before.rows)
        payload = self._layout.parts(block)
        self._write(block_header(len(block), before, payload, origin), *payload)

    def sync(self) -> None:
        """Wait until the disk has what was appended. Errors: OSError."""
        if self._file is not None:
            os.fdatasync(self._file)

    def close(self) -> None:
        """Again has no effect."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _is_full(self, rows: int) -> bool:
        _, first = self._segments[-1]
        return self._end >= SEGMENT_BYTES or rows - first >= self._segment_rows

    def _begin_segment(self, first: int) -> None:
        self.close()
        number = int(self._segments[-1][0].stem) + 1 if self._segments else 1
        path = self.folder / f"{number:06d}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._end = 0
        self._segments.append((path, first))
        try:
            self._write(segment_header(self._spec, self._memory))
        except OSError:
            # Not even the header: without a trace, so that the number is free.
            self.close()
            self._segments.pop()
            path.unlink(missing_ok=True)
            raise

    def _drop_old(self, now: int) -> None:
        """Delete the segments whose rows have all left the replay."""
        _drop(self._segments, now - self._capacity)

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


def read_segments(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """All bytes of each segment, the oldest first. Errors: OSError."""
    for path in segments(folder):
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # a trainer that runs had no more need of it
            continue
        yield path, data


def read(folder: Path, spec: GameSpec, damages: list[Damage]) -> Iterator[Stored]:
    """All blocks that are whole, in the order in which they were written; what is not is added to
    `damages` on the way.

    Errors: JournalError for a journal of another game or of a newer version; OSError.
    """
    for path, data in read_segments(folder):
        layout, blocks = sound_blocks(path, data, spec, damages)
        for rows, first, steps, start, gateway, incarnation, row in blocks.tolist():
            block = layout.over(memoryview(data)[start:], rows)
            origin = Origin(Source(gateway, incarnation), row)
            yield Stored(Position(first, steps), block, origin)


def drop_before(folder: Path, row: int, end: int) -> None:
    """Delete the segments of which no row is needed, of a journal that nobody writes: those before
    the row of this serial number. The newest stays: it says where the journal ends, at `end`.
    Errors: OSError."""
    _drop(_first_rows(folder, end), row)


def next_rows(folder: Path, spec: GameSpec) -> NextRows:
    """Which rows of each source a journal has that was never full, by the headers of its blocks.
    Errors: as of `read`."""
    found = NextRows()
    for path, data in read_segments(folder):
        _, blocks = sound_blocks(path, data, spec, [])
        found.take_many(blocks[:, ORIGIN], blocks[:, 0], all_kept=True)
    return found


def write_priorities(folder: Path, saved: SavedPriorities) -> None:
    """Keep the priorities of a replay's rows. Errors: OSError."""
    with written_whole(folder / PRIORITIES) as file:
        np.savez(file, **saved._asdict())


def read_priorities(folder: Path) -> SavedPriorities | None:
    """What `write_priorities` kept; None where that is not there or damaged: then all rows are
    drawn as if they were new."""
    try:
        with npz.opened(folder / PRIORITIES) as file:
            file.check_names(SavedPriorities._fields)
            saved = SavedPriorities(*(file.read(name) for name in SavedPriorities._fields))
    except (OSError, KeyError, npz.NpzError):
        return None
    columns = (saved.stream, saved.seq, saved.priority)
    fits = saved.stream.ndim == 1 and all(each.shape == saved.stream.shape for each in columns)
    fits &= [each.dtype for each in columns] == [np.int64, np.uint32, np.float32]
    return saved if fits and saved.largest.ndim == 0 else None


def _drop(found: list[tuple[Path, int]], row: int) -> None:
    """Delete segments, as `_first_rows` has them, whose rows all come before this one."""
    while len(found) > 1 and found[1][1] <= row:
        path, _ = found.pop(0)
        path.unlink(missing_ok=True)


def _first_rows(folder: Path, now: int) -> list[tuple[Path, int]]:
    """The segments and the serial number of each one's first row, as its first sound block says;
    where it has none, that of the next segment, so that nothing is thought older than it is."""
    found, later = [], now
    for path in reversed(segments(folder)):
        with path.open("rb") as file:
            data = file.read(1 << 20)
        header = read_block_header(data, *next_block(data, 0))
        later = header.at.rows if header else later
        found.append((path, later))
    return found[::-1]
