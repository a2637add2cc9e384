"""Which games that fail begin again, how often, and how long they wait before. Pure."""

from __future__ import annotations

from collections import deque

MOST = 5

WINDOW_S = 600.0
"""Failures count for so long: a game that played well for long has all its tries again."""

FIRST_S = 0.5
LONGEST_S = 10.0

BAD_FRAME = frozenset(
    {
        "action_out_of_range", "action_shape", "message_malformed", "message_too_long",
        "observation_not_finite", "observation_out_of_range", "observation_size",
        "reward_not_finite", "reward_shape", "seq_out_of_order", "took_on_first_frame",
        "unknown_actor", "unknown_status",
    }
)  # fmt: skip
"""What a server says of a frame: the next episode may be without. All else that it refuses without
`retry` is about who connects, and stays as it is."""


class Tries:
    """The tries of one game: `most` within `WINDOW_S`, each after twice the pause of the last."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._failed_at: deque[float] = deque()

    @property
    def failures(self) -> int:
        """Failures that count now."""
        return len(self._failed_at)

    def failed(self, now: float) -> float | None:
        """It has failed at `now`, in seconds of a clock that only rises: after how many seconds it
        begins again; None where it has had its tries."""
        while self._failed_at and now - self._failed_at[0] > WINDOW_S:
            self._failed_at.popleft()
        self._failed_at.append(now)
        if len(self._failed_at) > self._most:
            return None
        return float(min(LONGEST_S, FIRST_S * 2 ** (len(self._failed_at) - 1)))
