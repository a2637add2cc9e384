"""The choice of the run's game: proposed by the first client, decided or refused, written down."""

from __future__ import annotations

import logging

from config.load import ConfigError
from config.models import Config
from protocol.spaces import GameSpec
from server.ipc.messages import Refused
from server.monitor.status_publisher import StatusPublisher
from server.run.directory import RunDirectory
from server.run.disk import Writes
from server.supervisor import memory_budget
from server.supervisor.processes import Processes

log = logging.getLogger("supervisor")


def known_game(folder: RunDirectory, wanted: str | None) -> GameSpec | None:
    """The game of a run, None if it has none yet. `wanted`: the name that it should have. Errors:
    ConfigError where it has another, or cannot be read."""
    spec = folder.game()
    if spec is not None and wanted is not None and spec.game != wanted:
        raise ConfigError(
            f"run.game: expected {spec.game!r}, the game of the run in {folder.path}, got "
            f"{wanted!r}; leave the setting out, or start a new run for {wanted!r} without --resume"
        )
    return spec


class GameChoice:
    """Which game the run is about, once that is known."""

    def __init__(
        self,
        folder: RunDirectory,
        processes: Processes,
        status: StatusPublisher,
        writes: Writes,
        wanted: str | None,
    ) -> None:
        """`wanted`: the name of the game that the run is for, any if none. Errors: ConfigError
        where the folder's game cannot be read, or is another one."""
        self._spec: GameSpec | None = known_game(folder, wanted)
        self._folder = folder
        self._processes = processes
        self._status = status
        self._writes = writes
        self._kept = True

    @property
    def known(self) -> bool:
        """The run has a game."""
        return self._spec is not None

    def decide_known(self) -> None:
        """Go on with the run's game, if it has one. Errors: ConfigError where there is no memory
        for it."""
        if self._spec is not None:
            self._decide(self._spec)  # its file is there

    def propose(self, spec: GameSpec, config: Config) -> None:
        """A game was proposed: unless there is one, it becomes the run's or is refused."""
        if self._spec is not None:
            return
        text = memory_budget.refusal(spec, config)
        if text is None:
            try:
                self._decide(spec)
                self._kept = False
                self.keep()
                return
            except ConfigError as error:  # there is less shared memory than there is memory
                text = str(error)
        self._spec = None
        self._status.update(spec=None)
        self._processes.tell_gateways(Refused(spec, text))

    def keep(self) -> None:
        """Write down which game this is, if that is still to be done: what cannot be written is
        tried again with each row of metrics."""
        if self._kept:
            return
        assert self._spec is not None
        with self._writes.tried("the run's game.json") as errors:
            self._folder.keep_game(self._spec)
        self._kept = not errors

    def _decide(self, spec: GameSpec) -> None:
        """This is the run's game. Errors: ConfigError where there is no memory for it."""
        self._spec = spec
        self._status.update(spec=spec)
        self._processes.decide(spec)
        log.info("the game is %s", spec.describe())
