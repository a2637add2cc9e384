"""How long turns take: a histogram since the start, and percentiles of an interval."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from itertools import accumulate
from time import perf_counter

import numpy as np
import numpy.ma  # percentiles import it when first asked for, and there may be no file left then

from server.ipc.turn_buckets import TURN_BUCKETS_S

RECENT = 2048
"""Turns of the interval that the percentiles are taken from: the newest ones."""


class TurnTimes:
    """Times each turn from the arrival of its first frame to its last answer."""

    def __init__(self) -> None:
        self.turns = 0
        """Since the start, as is `seconds`."""
        self.seconds = 0.0
        """Sum over all turns."""
        self._counts = [0] * (len(TURN_BUCKETS_S) + 1)
        """Turns in each bucket; the last one has no upper bound."""
        self._recent_s: deque[float] = deque(maxlen=RECENT)

    def stop(self, started: float) -> None:
        """The last answer of a turn is sent, whose first frame came at `started`, by
        `perf_counter`."""
        self.add(perf_counter() - started)

    def add(self, seconds: float) -> None:
        """Count a turn that took this long."""
        self.turns += 1
        self.seconds += seconds
        self._counts[bisect_left(TURN_BUCKETS_S, seconds)] += 1
        self._recent_s.append(seconds)

    @property
    def buckets(self) -> list[int]:
        """Turns that took at most TURN_BUCKETS_S each, and the number of all turns."""
        return list(accumulate(self._counts))

    def percentiles_ms(self) -> tuple[float, float]:
        """p50 and p99 since `new_interval`, ms; NaN where there was no turn."""
        if not self._recent_s:
            return math.nan, math.nan
        p50, p99 = np.percentile(self._recent_s, [50, 99])
        return float(p50) * 1e3, float(p99) * 1e3

    def new_interval(self) -> None:
        """Percentiles are of the turns from here on."""
        self._recent_s.clear()
