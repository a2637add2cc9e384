"""What is said while there is no server: at once, and while it lasts at most once a minute.

By `logging`, in the logger `understudy_client`. A library prints nothing; where logging was not set
up, Python itself shows warnings on stderr.
"""

from __future__ import annotations

import logging
import time

from understudy_client.errors import ConnectionLost, ServerError
from understudy_client.wire import EPISODE_LIMIT

log = logging.getLogger("understudy_client")

EVERY_S = 60.0

LOST_EVERY_S = 10.0
"""A connection that is lost is news, unless the last one stood for moments only."""


class Trouble:
    """The trouble of one client with its server."""

    def __init__(self, address: tuple[str, int]) -> None:
        host, port = address
        self._where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._said_at: float | None = None
        """When there was a warning last."""
        self._open = False
        """There was one since the last connection."""

    def lost(self, error: ConnectionLost | ServerError) -> None:
        """A connection that stood is lost."""
        if isinstance(error, ServerError) and error.code == EPISODE_LIMIT:
            log.info("%s", error)  # no trouble: an episode of evaluation was too long
            return
        self._warn(f"connection lost: {error}; trying to connect again", LOST_EVERY_S)

    def failed(self, error: ConnectionLost | ServerError) -> None:
        """An attempt to connect has failed, and there will be another."""
        self._warn(
            f"{error}; trying again; to find out why: understudy doctor --connect {self._where}",
            EVERY_S,
        )

    def over(self) -> None:
        """There is a connection."""
        if self._open:
            self._open = False
            log.info("connected to %s", self._where)

    def _warn(self, text: str, every_s: float) -> None:
        now = time.monotonic()
        if self._said_at is None or now - self._said_at >= every_s:
            self._said_at, self._open = now, True
            log.warning("%s", text)
