"""Waiting until nothing is on its way in any process: the processes themselves are asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from server.ipc.messages import Settle, Settled
from server.supervisor.child import Child

ASK_EVERY_S = 0.02
"""Between two times that a process is asked."""


class Settling:
    """Asks processes, and takes in their answers."""

    def __init__(self, poll: Callable[[float], None]) -> None:
        """`poll`: the supervisor's loop for so many seconds, which hands over answers."""
        self._poll = poll
        self._settled: set[str] = set()
        """Names of processes that have answered that nothing is on its way."""

    def answer(self, message: Settled) -> None:
        """A process has answered."""
        if message.settled:
            self._settled.add(message.process)

    def wait(self, children: Sequence[Child], deadline: float) -> bool:
        """Ask until nothing is on its way in any of these; whether that was so in time. Errors:
        those of the loop."""
        self._settled.clear()
        next_asked = 0.0
        awaited = [child for child in children if not child.retired]
        while waiting := [child for child in awaited if child.name not in self._settled]:
            now = time.monotonic()
            if now >= deadline:
                return False
            if now >= next_asked:
                next_asked = now + ASK_EVERY_S
                for child in waiting:
                    child.send(Settle())
            self._poll(ASK_EVERY_S)
        return True
