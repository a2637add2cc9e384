"""How fast a counter rises: from two counts, and the times at which they were taken."""

from __future__ import annotations

import math

SHORTEST_S = 0.05
"""Counts that are closer together make no rate: one frame more would be thousands a second."""

SILENT_S = 5.0
"""A counter that nobody has read for so long, and for three of its intervals, stands still."""


class Rate:
    """Of one counter, which never falls.

    The count and its time are of one moment, by the clock of whoever counts: rows of metrics are
    made at other moments, between which there may be two reports, or none.
    """

    def __init__(self) -> None:
        self._count = 0
        self._at = math.nan
        self._interval_s = 0.0
        self._per_s = 0.0

    def take(self, count: int, at: float) -> None:
        """The counter stood at `count` at `at`, s, by `time.monotonic`."""
        if math.isnan(self._at):
            self._count, self._at = count, at
        elif at - self._at >= SHORTEST_S:
            self._interval_s = at - self._at
            # A writer that died in the middle of a block may have counted more than there is.
            self._per_s = max(0.0, (count - self._count) / self._interval_s)
            self._count, self._at = count, at

    def per_s(self, now: float) -> float:
        """The rate between the two newest counts; 0 before there are two, and where the counter
        has not been heard of for long."""
        silent = now - self._at > max(SILENT_S, 3 * self._interval_s)
        return 0.0 if silent else self._per_s
