"""Steps and frames lost in flight: counted when a gateway dies, and at the next start if the whole
server did."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from server.ipc.inflight import FILE, InFlight, InFlightCounters, StepCounts, left
from server.ipc.shared_memory import fence
from server.ipc.step_ring import StepRing
from server.run.events import EventLog

log = logging.getLogger("supervisor")

LOOKS = 10
"""At counters that change while they are looked at."""


class InFlightAccount:
    """What was lost, and the file in which gateways count what they answer for."""

    def __init__(self, folder: Path, events: EventLog, gateways: int) -> None:
        """`folder`: the run's. Nothing is counted before `begin`."""
        self.lost = InFlight()
        """With gateways that died, and with the server before this one where it was killed."""
        self.found: Mapping[int, tuple[int, int]] = {}
        """As of server.ipc.inflight.left."""
        self._path = folder / FILE
        self._events = events
        self._gateways = gateways
        self._counters: InFlightCounters | None = None

    @property
    def file(self) -> str:
        """Where gateways count; empty for nowhere."""
        return str(self._counters.path) if self._counters else ""

    def tell(self, index: int, numbers: tuple[int, int]) -> None:
        """As InFlightCounters.tell, where anything is counted."""
        if self._counters is not None:
            self._counters.tell(index, numbers)

    def begin(self, base: int, *, resumed: bool) -> None:
        """Count from now on. `base`: stored frames of the run before this start. `resumed`: it goes
        on where the previous server stopped, whose losses are counted now."""
        before = left(self._path, self.found) if resumed else None
        if before is not None:
            steps, frames = before
            lost = self.add(None, InFlight(max(0, steps - base), frames))
            log.warning("the previous run did not shut down cleanly: %s", lost)
        try:
            self._counters = InFlightCounters(self._path, base, self._gateways)
        except OSError as error:
            log.error("if the server is killed, steps in flight will not be counted: %s", error)

    def step_counts(self, rings: Sequence[StepRing]) -> StepCounts:
        """Steps completed and stored since the start, of one moment. `rings`: of all gateways."""
        for _ in range(LOOKS):
            stored = sum(ring.steps_read for ring in rings)
            fence()
            in_rings = [ring.steps for ring in rings]
            completed = self._counters.completed(in_rings) if self._counters else sum(in_rings)
            fence()
            if sum(ring.steps_read for ring in rings) == stored:
                break
        # What was read was looked at first: it is never more than what was written.
        return StepCounts(completed, stored)

    def gateway_gone(self, index: int, process: str, in_ring: int) -> InFlight | None:
        """A gateway has died, with so many steps in its ring: what is lost with it. None where
        nothing was counted."""
        if self._counters is None:
            return None
        return self.add(process, self._counters.gateway_gone(index, in_ring))

    def close(self, waiting: int, in_rings: list[int], *, clean: bool) -> None:
        """The server has stopped. `waiting`: rows in the rings. `in_rings`: steps that came into
        each ring. `clean`: all processes ended in time. Where all that games were answered for is
        stored, nothing is in flight; else the next start counts what is missing."""
        missing = self._counters.not_in(in_rings) if self._counters else InFlight()
        if waiting or missing != InFlight():
            log.error(
                "%d rows were not stored, and gateways still had %d steps and %d frames; the next "
                "start counts what is missing",
                waiting, missing.steps, missing.frames,
            )  # fmt: skip
        elif self._counters is not None and clean:
            self._counters.remove()

    def add(self, process: str | None, lost: InFlight) -> InFlight:
        """Count what was lost with a process; None: with the server before this one."""
        self.lost += lost
        self._events.add("in_flight_lost", process=process, steps=lost.steps, frames=lost.frames)
        return lost
