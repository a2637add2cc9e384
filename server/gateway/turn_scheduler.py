"""When turns are run: once all that is readable has been read, and not while the ring is full.

Two things make games wait, in both cases by not reading from them, so that TCP tells them:

- The ring is full, of a trainer that does not take steps in. Then all games wait.
- Games have played as far ahead of training as they may. Then those in lock step wait, so that the
  configured replay ratio is kept; games in real time and evaluations play on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from typing import Protocol

from agent.policy import Policy
from server.gateway.connection import GameConnection
from server.gateway.frame_loop import FrameLoop

POLL_S = 0.001
"""How often it is looked again whether games must still wait."""


class _Run(Protocol):
    """What the scheduler needs of a run (server.gateway.gateway_run)."""

    frame_loop: FrameLoop
    policy: Policy

    @property
    def ahead(self) -> bool:
        """Games have played as far ahead of training as they may."""


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
        self._run: _Run | None = None
        self._scheduled = False
        self._closed = False
        self._holding = False
        """Games in lock step wait for the trainer."""
        self._some_held = False
        """There are such games."""
        self._looked = self._interval = loop.time()
        """When it was looked last whether they must still wait; when the interval began."""
        self._held_s = 0.0
        """How long they have waited in it."""

    def open(self, run: _Run) -> None:
        """There is something to run."""
        self._run = run

    def close(self) -> None:
        """Run no more turns: the ring is about to go."""
        self._closed = True

    @property
    def full(self) -> bool:
        """The ring is full: a connection that comes now is not to be read from."""
        return self._run is not None and self._run.frame_loop.full

    @property
    def held(self) -> float:
        """The share of this interval in which games waited for the trainer."""
        return self._held_s / max(self._loop.time() - self._interval, POLL_S)

    def new_interval(self) -> None:
        """Count anew."""
        self._interval = self._looked = self._loop.time()
        self._held_s = 0.0

    def join(self, connection: GameConnection) -> None:
        """A connection may play from now on: where games in lock step wait, so does it."""
        if self._holding:
            connection.hold(True)
            self._some_held |= connection.lock_step

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
        run = self._run
        if run is None or run.frame_loop.full or self._closed:
            return  # a full ring: `_wait_for_ring` schedules the next turn
        run.policy.refresh()
        try:
            run.frame_loop.run()
        except Exception as error:
            self._crash(error)
            return
        self._turned()
        if run.frame_loop.full:
            self.stalls += 1
            self._stop_for_ring(True)
            self._loop.call_later(POLL_S, self._wait_for_ring)
        if not self._holding and run.ahead:
            self._looked = self._loop.time()
            self._hold(True)
            self._loop.call_later(POLL_S, self._wait_for_trainer)

    def _wait_for_ring(self) -> None:
        if self._closed:
            return
        assert self._run is not None
        self._run.frame_loop.flush()
        if self._run.frame_loop.full:
            self._loop.call_later(POLL_S, self._wait_for_ring)
            return
        self._stop_for_ring(False)
        self.schedule()

    def _stop_for_ring(self, full: bool) -> None:
        for connection in self._connections:
            connection.ring_full(full)

    def _wait_for_trainer(self) -> None:
        if self._closed:
            return
        assert self._run is not None
        now = self._loop.time()
        if self._some_held:
            self._held_s += now - self._looked
        self._looked = now
        if self._run.ahead:
            self._loop.call_later(POLL_S, self._wait_for_trainer)
        else:
            self._hold(False)

    def _hold(self, hold: bool) -> None:
        self._holding = hold
        self._some_held = False
        for connection in self._connections:
            connection.hold(hold)
            self._some_held |= hold and connection.lock_step
