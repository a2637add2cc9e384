"""Work for connections that have not said a valid HELLO: a little at a time, and the games first.

What a newcomer sends waits here, one piece of each connection, and is served in turn for no longer
than a slice of time; then newcomers rest. So a crowd of them costs the games no more than one that
is always there would, and a newcomer waits behind those that came before it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

log = logging.getLogger("gateway")

SLICE_S = 0.001
"""Processor time for newcomers at a time. A piece of work that is begun is done to its end."""

REST = 3.0
"""How long they rest behind it, in times what it took: they get a quarter of a gateway at most."""


class Newcomers:
    """What waits, and when it is done. For one event loop."""

    def __init__(
        self,
        soon: Callable[[Callable[[], None]], Any],
        later: Callable[[float, Callable[[], None]], Any],
        games_first: Callable[[], None],
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """`soon`, `later`: of the event loop. `games_first`: called before each slice, to answer
        the frames that have come. `clock`: of the processor time that is spent, s."""
        self._soon, self._later, self._games_first = soon, later, games_first
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._awake = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, work: Callable[[], None]) -> None:
        """Have this done when it is its turn. What it raises is logged, and others are served."""
        self._waiting.append(work)
        if not self._awake:
            self._awake = True
            self._soon(self._serve)

    def _serve(self) -> None:
        if not self._waiting:
            self._awake = False
            return
        self._games_first()
        begin, spent = self._clock(), 0.0
        while self._waiting and spent < SLICE_S:
            try:
                self._waiting.popleft()()
            except Exception:
                log.exception("a connection without HELLO failed; the others go on")
            spent = self._clock() - begin
        self._later(REST * spent, self._serve)
