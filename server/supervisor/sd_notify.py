"""What a service manager (systemd, Type=notify) is told: that the server is starting and how far,
that it is ready, that its loop goes round, that it is stopping. Without one, nothing.

Each word is a datagram to the socket that NOTIFY_SOCKET names: sd_notify(3).
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

from server.monitor.status import Status

QUIET_S = 10.0
"""A start that takes less says nothing of itself, unless a run is loaded."""

TELL_S = 5.0
"""How often a longer one does."""

MORE_S = 60
"""How much longer, from each time on, it may take: systemd would end it after a minute and a half
(TimeoutStartSec=)."""


class ServiceManager:
    """The one that has started this process, if one has."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # "@" is how an environment, which has no zero bytes, says an abstract address.
        self._address = address.replace("@", "\0", 1) if address.startswith("@") else address
        watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        patience_s = int(environment.get("WATCHDOG_USEC", 0)) / 1e6 if watched else 0.0
        self._every_s = patience_s / 4
        """How often it wants to hear that the loop goes round; 0 for never."""
        self._next = 0.0
        self._ready = False
        self._told = False
        self._next_told = time.monotonic() + QUIET_S

    def look(self, status: Status) -> None:
        """The supervisor's loop has come round, and this is the server's status."""
        if self._ready:
            self.beat()
        elif not status.unready:
            self.ready()
        elif status.loading or time.monotonic() >= self._next_told:
            self._starting(status.unready)

    def ready(self) -> None:
        """Games can play."""
        self._ready = True
        self._say("READY=1")
        if self._told:
            self._say("STATUS=games can play")

    def _starting(self, text: str) -> None:
        """Games cannot play yet, for this reason; but the start is not stuck."""
        now = time.monotonic()
        if not self._told or now >= self._next_told:
            self._told, self._next_told = True, now + TELL_S
            self._say(f"EXTEND_TIMEOUT_USEC={MORE_S * 1_000_000}\nSTATUS={text}")

    def beat(self) -> None:
        """The loop has come round."""
        if self._every_s and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every_s
            self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._say("STOPPING=1")

    def _say(self, word: str) -> None:
        if not self._address:
            return
        # One that cannot hear is no reason to stop.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1.0)
            sock.sendto(word.encode(), self._address)
