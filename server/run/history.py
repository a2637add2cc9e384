"""The numbers of a run over all its time, in bounded memory: what charts are drawn from.

Of a file of metrics that may have millions of lines, lines at even distances are read. New rows are
added as they come; where there are too many, every second one is dropped, and from then on only
every second one is kept. So the rows are always spread evenly over the whole run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

KEPT = 4096
"""Rows kept, at most."""

SHORT_FILE = 8 * 2**20
"""Bytes of a file that is read as a whole: an hour of metrics, a lifetime of changes."""

_LONG_LINE = 65_536
"""Bytes of a row are fewer: what comes without an end of line for longer is no row."""


Row = TypeVar("Row")


class History:
    """Rows of metrics at even distances, the oldest first."""

    def __init__(self, columns: Sequence[str], rows: Iterable[Mapping[str, Any]] = ()) -> None:
        """`columns`: names of metrics; a row without one of them has None there. `rows`: those of
        earlier starts."""
        self.columns = list(columns)
        self._rows = [self._plain(row) for row in rows]
        self._every = 1
        self._skipped = 0
        while len(self._rows) > KEPT:
            self._thin()

    def add(self, row: Mapping[str, float]) -> None:
        """A new row."""
        self._skipped += 1
        if self._skipped < self._every:
            return
        self._skipped = 0
        self._rows.append(self._plain(row))
        if len(self._rows) > KEPT:
            self._thin()

    def widen(self, names: Iterable[str]) -> None:
        """Have columns for these, too; rows so far are shorter."""
        known = set(self.columns)
        self.columns += [name for name in names if name not in known]

    def rows(self, points: int) -> list[list[Any]]:
        """At most so many rows at even distances over the whole run, the last one among them; as
        lists in the order of `columns`, None where there was no number, and shorter where a column
        came later. Safe to call from another thread than `add`."""
        return spread(self._rows, points)

    def _thin(self) -> None:
        """Drop every second row. A new list, so that a reader in another thread keeps its own."""
        self._rows = self._rows[::2]
        self._every *= 2

    def _plain(self, row: Mapping[str, Any]) -> list[Any]:
        return [_number(row.get(name)) for name in self.columns]


def spread(rows: Sequence[Row], points: int) -> list[Row]:
    """At most so many of `rows`, at even distances, the last one among them."""
    n = len(rows)
    if n <= points:
        return list(rows)
    if points < 2:
        return list(rows[n - 1 :])
    return [rows[i * (n - 1) // (points - 1)] for i in range(points)]


def thinned(rows: Iterable[Row], most: int = 2 * KEPT) -> list[Row]:
    """At most so many of any number of rows, at even distances, the first among them: as they come,
    in memory for that many."""
    found: list[Row] = []
    every = 1
    for number, row in enumerate(rows):
        if number % every == 0:
            found.append(row)
            if len(found) > most:
                found, every = found[::2], 2 * every
    return found


def sample_lines(path: Path, most: int = KEPT) -> list[dict[str, Any]]:
    """At most so many rows of a file of JSON lines, from even distances, the first one and the last
    among them. Of a long file only they are read. What cannot be read is passed over; without a
    file there are none. Errors: OSError."""
    if not path.exists():
        return []
    if path.stat().st_size <= SHORT_FILE:
        return spread(newest_lines(path), most)
    found = []
    with path.open("rb") as file:
        size = path.stat().st_size
        end = 0
        for i in range(most):
            # The line in which the i-th of so many equal parts ends, once; of the last the line.
            place = (i + 1) * size // most - 1 if i else 0
            if place < end:
                continue
            file.seek(_line_start(file, place, end))
            found += _decoded(file.readline(_LONG_LINE))
            end = file.tell()
    return found


def newest_lines(path: Path, most: int | None = None) -> list[dict[str, Any]]:
    """The newest rows of a file of JSON lines (all that are in its last `SHORT_FILE` bytes, or so
    many), the oldest first. What cannot be read is passed over; without a file there are none.
    Errors: OSError."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - SHORT_FILE))
        found = [row for line in file.read(SHORT_FILE).splitlines() for row in _decoded(line)]
    return found if most is None else found[-most:]


def _decoded(line: bytes) -> list[dict[str, Any]]:
    """The row in a line, if there is one."""
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    return [row] if isinstance(row, dict) else []


def _line_start(file: Any, place: int, floor: int) -> int:
    """Where the line begins that has the byte at `place`; not before `floor`."""
    low = max(floor, place - _LONG_LINE)
    file.seek(low)
    before = file.read(place - low)
    return low + before.rfind(b"\n") + 1 if b"\n" in before else low


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and math.isfinite(value) else None
