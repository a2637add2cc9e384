"""What a game counts itself: its score and its level, where the clients' format tells them."""

from __future__ import annotations

import math
from collections import deque

from server.ipc.game_report import GameReport

MOST = 10_000
"""Finished episodes that are kept until a report takes them: the newest ones."""


class GameNumbers:
    """Of all games of a gateway."""

    def __init__(self) -> None:
        self.skipped = 0
        """Frames that were answered and are no play (tempest.skip)."""
        self._score_peak = self._level_peak = -1
        self._finished: deque[tuple[int, int]] = deque(maxlen=MOST)

    def see(self, score: int, level: int) -> None:
        """A game is there now."""
        if score > self._score_peak:
            self._score_peak = score
        if level > self._level_peak:
            self._level_peak = level

    def end(self, score: int, level: int) -> None:
        """A training episode has ended there."""
        self._finished.append((score, level))

    def take(self) -> GameReport:
        """For a report; the episodes that ended are reported once."""
        finished = list(self._finished)
        self._finished.clear()
        seen = self._score_peak >= 0
        return GameReport(
            self.skipped,
            float(self._score_peak) if seen else math.nan,
            float(self._level_peak) if seen else math.nan,
            finished,
        )
