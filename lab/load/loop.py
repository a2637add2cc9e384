"""The one event loop of all load: many connections of one thread, on epoll.

What differs between loads is passed in: a handler for each connection, and what is due when.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable
from typing import Protocol

MAX_WAIT_S = 1.0
"""Between two looks at the clock."""

Due = Callable[[float], float]
"""Does what is due at this time of `time.perf_counter`; returns when it is to be called again."""


class HasFileno(Protocol):
    """A socket, or a pipe."""

    def fileno(self) -> int: ...


class LoadLoop:
    """Calls the handler of each connection that has something to read."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], object]] = {}
        self._stopped = False

    def on_readable(self, connection: HasFileno, handler: Callable[[], object]) -> None:
        """Call this handler from now on, instead of an earlier one."""
        file = connection.fileno()
        if file not in self._handlers:
            self._epoll.register(file, select.EPOLLIN)
        self._handlers[file] = handler

    def remove(self, connection: HasFileno) -> None:
        """Before it is closed."""
        file = connection.fileno()
        del self._handlers[file]
        self._epoll.unregister(file)

    def stop(self) -> None:
        """Have `run` return, after what has already come was handled."""
        self._stopped = True

    def run(
        self, due: Due | None = None, *, until: float = math.inf, silence_s: float = math.inf
    ) -> None:
        """Run until the time `until`, or until a handler calls `stop`.

        Errors: TimeoutError where nothing comes for `silence_s`; what the handlers raise.
        """
        clock, poll, handlers = time.perf_counter, self._epoll.poll, self._handlers
        self._stopped = False
        heard = clock()
        wake = math.inf if due is None else -math.inf
        while not self._stopped and (now := clock()) < until:
            if due is not None and now >= wake:
                wake = due(now)
                now = clock()
            events = poll(max(0.0, min(wake - now, until - now, MAX_WAIT_S)))
            for file, _ in events:
                handlers[file]()
            if events:
                heard = clock()
            elif clock() - heard > silence_s:
                raise TimeoutError(f"expected an answer within {silence_s:g} s, got none")

    def close(self) -> None:
        """The connections stay open."""
        self._epoll.close()
