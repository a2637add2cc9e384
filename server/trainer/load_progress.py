"""What a trainer says while it loads: that it is alive, after each piece, and how far it is."""

from __future__ import annotations

import contextlib
import logging
import time
from multiprocessing.connection import Connection as Pipe
from typing import Any

from server.ipc.heartbeat import Heartbeat
from server.ipc.load_messages import Loading, RunLoaded
from server.ipc.messages import Begin, Ending, Stop

log = logging.getLogger("trainer")

TELL_S = 1.0
"""How often the supervisor is told. What takes less than that is not worth a word."""

LINE_S = 5.0
"""How often the log says it."""


class LoadProgress:
    """Called with how many rows of the replay are read, after each piece that was loaded."""

    def __init__(self, pipe: Pipe, heartbeat: Heartbeat) -> None:
        self._pipe = pipe
        self._heartbeat = heartbeat
        now = time.monotonic()
        self._next_message, self._next_line = now + TELL_S, now + LINE_S
        heartbeat.busy()

    def __call__(self, rows: int = 0) -> None:
        self._heartbeat.beat()
        # The next piece may take long in its turn: a large checkpoint, a slow disk.
        self._heartbeat.busy()
        now = time.monotonic()
        if now >= self._next_message:
            self._next_message = now + TELL_S
            with contextlib.suppress(OSError):  # without a supervisor, the loop will notice it
                self._pipe.send(Loading(rows))
        if rows and now >= self._next_line:
            self._next_line = now + LINE_S
            log.info("reading the replay: %d rows so far", rows)

    def await_begin(self, told: list[Any]) -> bool:
        """Say that all is loaded, and wait until the start is accepted; False where the trainer is
        to end instead. Other messages that come meanwhile are added to `told`."""
        try:
            self._pipe.send(RunLoaded())
            while not isinstance(message := self._next(), Begin):
                if isinstance(message, Ending | Stop):
                    return False
                told.append(message)
        except (EOFError, OSError):  # the supervisor is gone
            return False
        return True

    def _next(self) -> Any:
        while not self._pipe.poll(1.0):
            self._heartbeat.beat()
        return self._pipe.recv()
