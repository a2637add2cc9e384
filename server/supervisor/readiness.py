"""Whether games can play: when a game that is known would be welcomed, or, in a run without one,
when a HELLO would be taken up.

Listening is not enough: a run that is resumed is loaded first, which may take minutes, and games
that say HELLO meanwhile wait for their WELCOME.
"""

from __future__ import annotations

import logging

from server.ipc.load_messages import Loading
from server.ipc.messages import GatewayReport
from server.monitor.status_publisher import StatusPublisher
from server.run.events import EventLog
from server.supervisor.processes import Processes

log = logging.getLogger("supervisor")

LOADS = "the run is being loaded"


class Readiness:
    """Keeps which gateways serve their sockets, and which of them would welcome a game."""

    def __init__(self, processes: Processes, status: StatusPublisher, events: EventLog) -> None:
        self._processes = processes
        self._status = status
        self._events = events
        self.serving: set[int] = set()
        """Gateways that have reported: their sockets are served."""
        self._welcoming: set[int] = set()
        self._loads = False
        self._said = False
        self._dashboard: str | None = None

    def begin(self, *, loads: bool, dashboard: str | None) -> None:
        """The processes have been started. `loads`: the run has a game, and is loaded first."""
        self._loads, self._dashboard = loads, dashboard
        if loads:
            self._status.update(loading=LOADS)

    def loading(self, message: Loading) -> None:
        """The trainer says how far it is."""
        if self._loads and self._processes.ready is None:
            rows = f": {message.rows:,} rows of the replay are read" if message.rows else ""
            self._status.update(loading=LOADS + rows)

    def reported(self, report: GatewayReport) -> None:
        """A gateway has reported."""
        self.serving.add(report.index)
        # In a run that has got its game from a client, those that were there take up any HELLO.
        if report.opened or not (self._loads or self._processes.ready):
            self._welcoming.add(report.index)
        ready = self._all_welcome
        self._status.update(ready=ready)
        status = self._status.status
        if ready and not self._said and not status.ended:
            self._said = True
            self._status.update(loading="")
            self._events.add(
                "ready",
                port=status.port,
                tempest_port=status.tempest_port,
                websocket_port=status.websocket_port,
                dashboard=self._dashboard,
            )
            if self._loads:
                log.info("the run is loaded: games can play")

    def gateway_gone(self, index: int) -> None:
        """A gateway has died, or has ended because it was told to."""
        self.serving.discard(index)
        self._welcoming.discard(index)
        self._status.update(ready=self._all_welcome)

    @property
    def _all_welcome(self) -> bool:
        places = enumerate(self._processes.gateways)
        return all(index in self._welcoming or child.retired for index, child in places)
