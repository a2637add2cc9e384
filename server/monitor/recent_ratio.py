"""How much of a counter there was of late for each of another: from their counts at the moments of
rows."""

from __future__ import annotations

import math
from collections import deque

LATE_S = 60.0


class RecentRatio:
    """What one counter rose within the last `LATE_S`, divided by what another one did. Both only
    rise."""

    def __init__(self, most: float = 1.0) -> None:
        """`most`: the quotient is no larger; 1 for a share."""
        self._most = most
        self._looks: deque[tuple[float, int, int]] = deque([(-math.inf, 0, 0)])
        """Of late, and the last one before that."""

    def of(self, part: int, whole: int, now: float) -> float:
        """`part` and `whole` are the counts at `now`, s, by `time.monotonic`; NaN where `whole` did
        not rise of late."""
        looks = self._looks
        looks.append((now, part, whole))
        while len(looks) > 2 and looks[1][0] <= now - LATE_S:
            looks.popleft()
        _, part_then, whole_then = looks[0]
        risen = whole - whole_then
        # An intervention that is still going on is counted with a later report than its frames.
        return min(self._most, (part - part_then) / risen) if risen > 0 else math.nan
