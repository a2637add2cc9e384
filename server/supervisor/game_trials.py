"""Games that were tried, and that the trainer could not begin: refused at once for a while, and how
often the server tries.

Each try that fails costs a trainer's start. Whoever proposes games must not be able to keep the
server at that.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque

import msgspec

from protocol.spaces import GameSpec

REMEMBERED_S = 300.0
"""How long a game that could not be begun is refused without a try: memory may be there later."""

FAILURES = 3
"""Tries that may fail within WINDOW_S; until then no other game is tried."""

WINDOW_S = 60.0


class GameTrials:
    """Remembers. `now`: a clock that only rises, seconds."""

    def __init__(self) -> None:
        self._failed: deque[float] = deque(maxlen=FAILURES)
        self._refused: dict[bytes, tuple[float, str]] = {}
        """Until when, and why, by digest of the spec: a spec may be a megabyte."""

    def failed(self, now: float) -> None:
        """A try has failed."""
        self._failed.append(now)

    def remember(self, spec: GameSpec, text: str, now: float) -> None:
        """Refuse this game for a while, with this text."""
        self._refused[_digest(spec)] = now + REMEMBERED_S, text

    def refusal(self, spec: GameSpec, now: float) -> str | None:
        """Why this game is refused without a try, if it is."""
        # No more than are tried in that time: the dict stays small.
        self._refused = {key: one for key, one in self._refused.items() if one[0] > now}
        until, text = self._refused.get(_digest(spec), (now, None))
        if text is None:
            return None
        return f"{text} (found out before; it is tried again in {math.ceil(until - now)} s)"

    def wait_s(self, now: float) -> int:
        """In how many seconds another game may be tried; 0 for now."""
        if len(self._failed) < FAILURES:
            return 0
        return max(0, math.ceil(self._failed[0] + WINDOW_S - now))


def _digest(spec: GameSpec) -> bytes:
    return hashlib.sha256(msgspec.msgpack.encode(spec)).digest()
