"""The start of a run: accepted or refused, and where the run goes on from.

A new run's start is accepted once the server listens. A run whose game is known is first loaded by
the trainer, which sees whether checkpoint, demonstrations and rows fit. Until then nothing in the
run's folder changes, and nobody is let at the controls.
"""

from __future__ import annotations

from config.models import Config
from server.control.endpoints import ControlEndpoints
from server.ipc.messages import Ready
from server.monitor.status_publisher import StatusPublisher
from server.run.directory import RunDirectory, append_lines
from server.run.disk import Writes
from server.run.events import EventLog
from server.supervisor.processes import Processes


class RunStart:
    """How far the start of a run has come."""

    def __init__(
        self,
        folder: RunDirectory,
        processes: Processes,
        endpoints: ControlEndpoints,
        status: StatusPublisher,
        events: EventLog,
        writes: Writes,
        *,
        resume: bool,
    ) -> None:
        self.base_frames: int | None = None if resume else 0
        """Stored frames before this start; None while that is not known."""
        self.refused = False
        """It has come to nothing, and the folder is to be as it was."""
        self._over = False
        self._folder = folder
        self._processes = processes
        self._endpoints = endpoints
        self._status = status
        self._writes = writes
        folder.when_accepted(events.begin)

    @property
    def accepted(self) -> bool:
        """Nothing refuses it any more."""
        return self._folder.accepted

    def accept(self, config: Config) -> None:
        """Nothing refuses it any more: let all write. Again, or after `end`, it has no effect.
        Errors: ConfigError."""
        if not self.accepted and not self._over:
            try:
                self._folder.accept(config)
            except BaseException:
                self.refused = True
                raise
            self._endpoints.open()
            self._processes.begin()

    def end(self) -> None:
        """The server stops: what is not accepted by now will not be."""
        self._over = True

    def frames(self, steps: int) -> int | None:
        """Stored frames of the run, with so many since this start; None while the others are not
        known."""
        return None if self.base_frames is None else self.base_frames + steps

    def refuse(self, *, unplayed: bool = False) -> bool:
        """A process cannot go on with this configuration: whether that refuses the start.
        `unplayed`: nobody could play yet, and the folder has nothing worth keeping."""
        self.refused = unplayed or self._processes.ready is None
        return self.refused

    def ready(self, message: Ready) -> None:
        """The trainer is ready. The first time, write down where the run goes on from."""
        if not self._processes.opened(message):
            return
        self.base_frames = message.base_frames
        launch, started = self._folder.launch, self._status.status.started
        record = {"time": started, "launch": launch, "frames": self.base_frames}
        with self._writes.tried(str(self._folder.starts)):
            append_lines(self._folder.starts, [record])
        self._status.add_start(record)
