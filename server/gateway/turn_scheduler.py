"""When turns are run: once all that is readable has been read, and not while the ring is full.

A full ring is the back-pressure of a trainer that is behind: no connection is read from until the
ring has taken what waits, and TCP makes the games wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set

from agent.policy import Policy
from server.gateway.connection import GameConnection
from server.gateway.frame_loop import FrameLoop

RING_POLL_S = 0.001
"""How often a full ring is looked at again."""


class TurnScheduler:
    """Runs the turns of a frame loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connections: Set[GameConnection],
        turned: Callable[[], None],
        crash: Callable[[BaseException], None],
    ) -> None:
        """`turned`: called after each turn; `crash`: called with what a turn raised."""
        self.stalls = 0
        """How often the ring was full and reading stopped."""
        self._loop = loop
        self._connections = connections
        self._turned = turned
        self._crash = crash
        self._frame_loop: FrameLoop | None = None
        self._policy: Policy | None = None
        self._scheduled = False
        self._closed = False

    def open(self, frame_loop: FrameLoop, policy: Policy) -> None:
        """There is something to run."""
        self._frame_loop, self._policy = frame_loop, policy

    def close(self) -> None:
        """Run no more turns: the ring is about to go."""
        self._closed = True

    @property
    def full(self) -> bool:
        """The ring is full: a connection that comes now is not to be read from."""
        return self._frame_loop is not None and self._frame_loop.full

    def schedule(self) -> None:
        """Run a turn after all that is readable now has been read."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.run_now)

    def run_now(self) -> None:
        """Run the turn that is scheduled, if one is: its frames wait no longer."""
        if not self._scheduled:
            return
        self._scheduled = False
        frame_loop = self._frame_loop
        if frame_loop is None or frame_loop.full or self._closed:
            return  # a full ring: `_wait_for_ring` schedules the next turn
        assert self._policy is not None
        self._policy.refresh()
        try:
            frame_loop.run()
        except Exception as error:
            self._crash(error)
            return
        self._turned()
        if frame_loop.full:
            self.stalls += 1
            self._hold(True)
            self._loop.call_later(RING_POLL_S, self._wait_for_ring)

    def _wait_for_ring(self) -> None:
        if self._closed:
            return
        assert self._frame_loop is not None
        self._frame_loop.flush()
        if self._frame_loop.full:
            self._loop.call_later(RING_POLL_S, self._wait_for_ring)
            return
        self._hold(False)
        self.schedule()

    def _hold(self, full: bool) -> None:
        for connection in self._connections:
            connection.ring_full(full)
