"""The choice of the run's game: proposed by the first client, tried, decided or refused, written
down.

A game that a client has proposed is on trial until the trainer is ready with it. Nobody plays until
then. A trainer that fails before, for want of memory, say, or that is killed, refuses that game
alone: a fresh one is started, and the next client may propose another.
"""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path

from config.load import ConfigError
from config.models import Config
from config.passing import TryAgain
from protocol.spaces import GameSpec
from server.ipc.messages import GATEWAY, ProcessFailed, Refused
from server.monitor.status_publisher import StatusPublisher
from server.run.directory import RunDirectory
from server.run.disk import Writes
from server.run.events import EventLog
from server.supervisor import memory_budget
from server.supervisor.game_trials import GameTrials
from server.supervisor.processes import Processes, ProcessLoss

log = logging.getLogger("supervisor")

_OUT_OF_MEMORY = (-signal.SIGKILL, -signal.SIGBUS)
"""Exit codes of a process that the system has ended because there was no more memory, or shared
memory."""


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
        events: EventLog,
        writes: Writes,
        wanted: str | None,
    ) -> None:
        """`wanted`: the name of the game that the run is for, any if none. Errors: ConfigError
        where the folder's game cannot be read, or is another one."""
        self._spec: GameSpec | None = known_game(folder, wanted)
        self._folder = folder
        self._processes = processes
        self._status = status
        self._events = events
        self._writes = writes
        self._kept = True
        self.opened = False
        """A gateway has opened with the game: it can be played."""
        self.came_before = self.known
        """The run had a game when it was started."""
        self._trials = GameTrials()
        self._on_trial = False
        self._failure: ProcessFailed | None = None
        """What the trainer has said of a game on trial before it ended."""
        self._rows_before: set[Path] = set()

    @property
    def known(self) -> bool:
        """The run has a game."""
        return self._spec is not None

    def cannot_open(self, message: ProcessFailed) -> bool:
        """Whether a gateway says why it ends, and nobody could play yet: another one in its place
        would fail alike."""
        return message.kind == GATEWAY and not self.opened

    def decide_known(self, config: Config) -> None:
        """Go on with the run's game, if it has one. Errors: ConfigError where there is no memory
        for it."""
        if self._spec is not None:
            if text := memory_budget.refusal(self._spec, config):
                raise ConfigError(text)
            self._decide(self._spec)  # its file is there

    def propose(self, spec: GameSpec, config: Config) -> None:
        """A game was proposed: unless there is one, it is tried or refused."""
        if self._spec is not None:
            return
        now = time.monotonic()
        text = self._trials.refusal(spec, now) or memory_budget.refusal(spec, config)
        if text is None and (wait_s := self._trials.wait_s(now)):
            self._refuse(
                spec,
                "the server could not begin the games that were proposed lately, and tries no "
                f"other one for {wait_s} s; retry then",
                later=True,
            )
            return
        if text is None:
            self._rows_before, self._failure = self._rows(), None
            try:
                self._decide(spec)
                self._on_trial = True
                return
            except ConfigError as error:  # there is less shared memory than there is memory
                text = str(error)
        self._refuse(spec, text)

    def poll(self) -> None:
        """Once the trainer is ready with a game on trial, it is the run's. The gateways know that
        before: games wait for no disk."""
        if self._on_trial and self._processes.ready is not None:
            self._on_trial = self._kept = False
            self._write()

    def failed(self, message: ProcessFailed) -> bool:
        """The trainer says why it ends: whether that is the end of a game on trial, and of nothing
        else. What follows is `lost`."""
        if message.kind == GATEWAY:
            return False
        self.poll()
        self._failure = message
        return self._on_trial

    def lost(self, loss: ProcessLoss, config: Config) -> bool:
        """The trainer is gone: whether a game was on trial, which is refused now. A fresh trainer
        is about to start, in a server that has no game."""
        self.poll()
        if not self._on_trial or self._spec is None:
            return False
        spec, said = self._spec, self._failure
        self._on_trial, self._failure = False, None
        self._processes.forget_game()
        for path in self._rows() - self._rows_before:
            with self._writes.tried(str(path)):
                path.unlink(missing_ok=True)
        now = time.monotonic()
        self._trials.failed(now)
        later = said is not None and (said.passing or said.cause == "system")
        if said is not None and said.cause == "memory":
            later = False  # the same game would cost a trainer's start again
            text = memory_budget.shortage(spec, config, said.text)
        elif said is None and loss.exit_code in _OUT_OF_MEMORY:
            text = memory_budget.shortage(spec, config, loss.reason)
        elif said is not None and said.cause == "weights":
            text = (
                f"expected a game that the weights fit which this run begins with (--init-from), "
                f"and nothing of them fits {spec.game!r}; the server's log says what differs"
            )
        elif later:
            text = "the server could not begin this game just now; its log says why; retry later"
        else:
            text = (
                f"expected a game that the server can learn, and its trainer failed with "
                f"{spec.game!r} before it was ready; the server's log says why"
            )
        if not later:
            self._trials.remember(spec, text, now)
        log.error("%s; the game is refused, and the next may propose another", loss)
        self._events.add("game_refused", game=spec.game, reason=text)
        self._refuse(spec, text, later=later)
        return True

    def failed_start(self, message: ProcessFailed, config: Config) -> ConfigError:
        """The error for a start that the trainer cannot make, with what the operator can do."""
        text = message.text
        if self._spec is not None and message.cause == "memory":
            text = memory_budget.shortage(self._spec, config, text)
        return TryAgain(text) if message.passing else ConfigError(text)

    def keep(self) -> None:
        """Write down which game this is, if that is still to be done: what cannot be written is
        tried again with each row of metrics."""
        self.poll()
        if not self._kept:
            self._write()

    def _write(self) -> None:
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

    def _refuse(self, spec: GameSpec, text: str, *, later: bool = False) -> None:
        """The run has no game. `later`: the same game may be proposed again."""
        self._spec = None
        self._status.update(spec=None)
        self._processes.tell_gateways(Refused(spec, text, later))

    def _rows(self) -> set[Path]:
        """The files of rows in the run's folder; agent.journal has torch with it."""
        return set(self._folder.path.glob("replay/*.rows"))
