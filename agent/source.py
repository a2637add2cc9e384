"""The source of rows: who numbers them, so that each is taken in once, however often it is sent.

A gateway numbers the rows of its ring from 0, in the order in which they are written. The rows of
a block have one source and follow each other, so a block needs no more than its origin: the source,
and the number of its first row. A receiver that remembers the next row that it wants from each
source cuts what it has already, and sees what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Source(NamedTuple):
    """Who numbers rows."""

    gateway: int
    """Below 2**16."""
    incarnation: int
    """Which of the rings that this gateway has had in the run: the start of the server that made
    it. Below 2**32, and 0 where the source is not known."""

    def __str__(self) -> str:
        return f"gateway {self.gateway} of start {self.incarnation}"


UNKNOWN = Source(0, 0)
"""Of rows that nobody numbered: those of older files."""


class Origin(NamedTuple):
    """Where a block of rows comes from."""

    source: Source = UNKNOWN
    first: int = 0
    """The number of its first row."""

    def behind(self, rows: int) -> Origin:
        """Where it would come from without so many of its first rows."""
        return Origin(self.source, self.first + rows)


@dataclass(frozen=True, slots=True)
class Hole:
    """Rows that did not come, with later ones of their source there."""

    source: Source
    first: int
    stop: int

    def __str__(self) -> str:
        return (
            f"rows {self.first} to {self.stop - 1} of {self.source} are missing: expected row "
            f"{self.first} next, got row {self.stop}"
        )


class NextRows:
    """The next row wanted from each source. Nothing is said of rows of UNKNOWN: all are taken."""

    def __init__(self) -> None:
        self._wanted: dict[Source, int] = {}
        self.missing = 0
        """Rows that were never there, with later ones of their source there."""
        self.doubled = 0
        """Rows that came again."""

    @property
    def sources(self) -> dict[Source, int]:
        """The next row wanted of each source that there was, a copy."""
        return dict(self._wanted)

    def wanted(self, source: Source) -> int:
        """Of a source: 0 where nothing came yet."""
        return self._wanted.get(source, 0)

    def begin(self, at: Origin) -> None:
        """Of this source nothing before `at` is wanted, unless it is wanted already."""
        if _known(at):
            self._wanted.setdefault(at.source, at.first)

    def hole(self, at: Origin) -> Hole | None:
        """What would be missing if rows of this origin were taken now."""
        wanted = self.wanted(at.source)
        return Hole(at.source, wanted, at.first) if at.first > wanted and _known(at) else None

    def take(self, at: Origin, rows: int) -> int:
        """A block of so many rows comes. How many of its first rows came before: those are to be
        cut; the others are wanted no more."""
        if not _known(at):
            return 0
        wanted = self.wanted(at.source)
        again = min(max(wanted - at.first, 0), rows)
        self.doubled += again
        self.missing += max(at.first - wanted, 0)
        self._wanted[at.source] = max(wanted, at.first + rows)
        return again

    def take_many(
        self, origins: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], *, all_kept: bool
    ) -> None:
        """Blocks come that were kept once, one after the other: for each the gateway, the
        incarnation and the number of its first row, int64 [n, 3], and how many rows it has, [n].
        `all_kept`: False where the first rows of a source may have been given up: then nothing
        before its first block is wanted."""
        for gateway, incarnation in np.unique(origins[:, :2], axis=0).tolist():
            source = Source(gateway, incarnation)
            if source == UNKNOWN:
                continue
            same = (origins[:, :2] == source).all(1)
            first, n = origins[same, 2], rows[same]
            if not all_kept:
                self.begin(Origin(source, int(first[0])))
            reached = np.maximum.accumulate(np.append(self.wanted(source), first + n))
            self.missing += int(np.maximum(first - reached[:-1], 0).sum())
            self.doubled += int(np.clip(reached[:-1] - first, 0, n).sum())
            self._wanted[source] = int(reached[-1])


def _known(at: Origin) -> bool:
    return at.source != UNKNOWN
