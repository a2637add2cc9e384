"""The rows of metrics in a run's folder: new ones whole, old ones thinned out, so that a run of
weeks fills no disk and still has all its time.

metrics.jsonl        the newest
metrics.1.jsonl      once that was full: what came before, whole
metrics.older.jsonl  every 60th row of what was before that: a minute's one, at a row a second
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from agent.files import append_whole
from server.run.history import KEPT, sample_lines

FULL = 64 * 2**20
"""Bytes of a file that nothing more is added to: some six hours of a row a second."""

THINNED = 60
"""Of so many rows, one is kept in the end: some 4 MB a day."""


class MetricsLog:
    """Adds rows, and finds them again. One process alone adds."""

    def __init__(self, newest: Path) -> None:
        """`newest`: the file of the newest rows; the others are beside it."""
        self._newest = newest
        self._before = newest.with_suffix(f".1{newest.suffix}")
        self._older = newest.with_suffix(f".older{newest.suffix}")

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row, on a line of its own whatever the file ends with. Errors: OSError, with every
        file as it was, or as it was with this row."""
        append_whole(self._newest, (json.dumps(row) + "\n").encode())
        if self._newest.stat().st_size >= FULL:
            self._roll()

    def sample(self, most: int = KEPT) -> list[dict[str, Any]]:
        """At most so many rows (at least 10) from even distances in the run's whole time, the first
        one and the last among them; see `sample_lines`. Errors: OSError."""
        parts = {
            path: path.stat().st_size * (THINNED if path == self._older else 1)
            for path in (self._older, self._before, self._newest)
            if path.exists()
        }
        if len(parts) == 1:
            return sample_lines(next(iter(parts)), most)
        # Each part by the time that it is of, and at least its first row and its last.
        room, total = most - 2 * len(parts), max(sum(parts.values()), 1)
        return [
            row
            for path, weight in parts.items()
            for row in sample_lines(path, 2 + room * weight // total)
        ]

    def _roll(self) -> None:
        """The newest file is full: it is the one before from now on, and of that some rows stay."""
        if self._before.exists():
            with self._before.open("rb") as file:
                append_whole(self._older, b"".join(islice(file, 0, None, THINNED)))
        self._newest.replace(self._before)


def plain(row: dict[str, float]) -> dict[str, float | int | None]:
    """A row as JSON can hold it: what is no number becomes null, whole numbers lose their point."""
    return {
        name: None if not math.isfinite(value) else int(value) if value == int(value) else value
        for name, value in row.items()
    }
