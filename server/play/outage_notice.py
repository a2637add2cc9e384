"""`OutageNotice`: what `understudy play` prints while games are without their server. Pure."""

from __future__ import annotations

from collections.abc import Sequence

AGAIN_S = 60.0
"""How often it is printed while it lasts."""


class OutageNotice:
    """What to print while games are without the server: that of one of them, for all, at first and
    then once a minute; and that it is over."""

    def __init__(self) -> None:
        self._since: float | None = None
        """When it was said last; None while all is well."""

    def line(self, troubles: Sequence[str], now: float) -> str | None:
        """A line to print, or None. `troubles`: what games say; `now`: seconds, of any clock."""
        if not troubles:
            before, self._since = self._since, None
            return None if before is None else "connected to the server"
        if self._since is not None and now - self._since < AGAIN_S:
            return None
        self._since = now
        return troubles[0]
