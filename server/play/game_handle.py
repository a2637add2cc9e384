"""One game over all of its processes: started, watched, and begun again when it has failed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from server.play import game_process
from server.play.game_errors import WHERE
from server.play.game_messages import GameFailure, GameOptions, Part, SharedCounts, share
from server.play.tries import Tries
from server.signals import signals_blocked

START_S = 300.0
"""What a process may take until it is one: many start at once, and each imports Gymnasium."""

WRITE_S = 0.3
"""What a process that hangs has to write where it is."""

_SPAWN = multiprocessing.get_context("spawn")


class GameHandle:
    """A game. Its process changes; who it is and what it has played stay."""

    def __init__(
        self, options: GameOptions, client: int, clients: int, counts: SharedCounts, folder: Path
    ) -> None:
        """`folder`: for what a process writes of where it is."""
        self.client = client
        self.said = ""
        """What it said last, since the last order."""
        self.absent = False
        """It plays in rounds, and failed with its part of the round done: nobody waits for it."""
        self.over = False
        """It does not play any more: it is through, was stopped, or is given up."""
        self.given_up = False
        self.failures: list[GameFailure] = []
        self.sessions: set[int] = set()
        """Those of its process now."""
        self._finished = False
        """What it has to play is played."""
        self._round: int | None = None
        """The episodes of the round that it plays, all games together."""
        self._options = options
        self._counts = counts
        episodes = share(options.episodes, client, clients)
        frames = share(options.frames, client, clients)
        self._part = Part(
            options, client, clients, episodes, frames, folder / f"{client}.txt"
        )  # what the next process is given
        self._frames = frames
        self._tries = Tries(options.restarts)
        self._process: BaseProcess | None = None
        self._pipe: Connection[Any, Any] | None = None
        self._begins_at = 0.0
        self.reported = False
        """It is known why its process ends before its time."""

    # Its process.

    @property
    def process(self) -> BaseProcess | None:
        """The process that plays it now; None while it waits for its next one."""
        return self._process

    def begin(self) -> None:
        """Start a process for it."""
        ours, theirs = _SPAWN.Pipe()
        self._counts.alive[self.client] = time.monotonic() + START_S
        self.reported = False
        self.said = ""
        self._part.trace.unlink(missing_ok=True)
        with signals_blocked():
            process = _SPAWN.Process(
                target=game_process.main,
                args=(self._part, theirs, self._counts),
                name=f"game-{self.client}",
            )
            process.start()
        theirs.close()
        self._process, self._pipe = process, ours
        if self._round is not None:
            self.order("go", self._round)

    def due(self, now: float) -> bool:
        """It is time for its next process."""
        return self._process is None and not self.over and now >= self._begins_at

    def waits_on(self) -> list[Any]:
        """What tells that there is something to do: for multiprocessing.connection.wait."""
        process, pipe = self._process, self._pipe
        return [each for each in (process and process.sentinel, pipe) if each is not None]

    def messages(self) -> Iterator[Any]:
        """What its process has said since."""
        while self._pipe is not None:
            try:
                if not self._pipe.poll():
                    return
                message = self._pipe.recv()
            except (EOFError, OSError):
                self._pipe.close()
                self._pipe = None
                return
            yield message

    def hangs(self, now: float) -> bool:
        """Its process lives and has made no step for too long."""
        return (
            self._process is not None
            and now - self._counts.alive[self.client] > self._options.hang_s
        )

    def kill(self) -> str:
        """End its process now; where it was, if it could write that."""
        process = self._process
        if process is None or process.pid is None:
            return ""  # it has ended by itself meanwhile
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, WHERE)
        time.sleep(WRITE_S)
        process.kill()
        self._counts.alive[self.client] = time.monotonic()
        return self._where()

    def exit_code(self) -> int | None:
        """How its process ended; None while it lives or where there is none. To be asked before
        `ended`."""
        # Not `join`, which waits: another thread that starts a process may have asked the system
        # for all that have ended, and is about to say so.
        return None if self._process is None else self._process.exitcode

    def died(self, code: int) -> GameFailure | None:
        """Why its process, which has ended, did so before its time; None where it did in order, or
        where it has said that itself."""
        if self.reported or (self._finished and not code):
            return None
        return GameFailure(self.client, f"its process {_ended(code)}", self._where())

    def ended(self) -> None:
        """Its process has ended, and all that it said is read."""
        process, self._process = self._process, None
        assert process is not None
        process.join(0)
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        self.sessions.clear()

    # What it has played, and its failures.

    def order(self, word: str, episodes: int | None) -> None:
        """Tell its process."""
        self.said = ""
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                self._pipe.send((word, episodes))

    def go(self, episodes: int) -> None:
        """Play a round of so many episodes."""
        self._round, self.absent = episodes, False
        self._part = replace(self._part, played=0, failures=0)

    def has_said(self, word: str) -> bool:
        """Whether it says this, or need not. One without a process is as if it were held."""
        return self.absent or self.said == word or (word == "held" and self._process is None)

    def completed(self) -> None:
        """An episode is complete."""
        self._part = replace(self._part, played=self._part.played + 1, failures=0)

    def heard(self, word: str) -> None:
        """It has done as ordered."""
        self.said = word
        if word in ("done", "left"):
            self._round = None
            self._finished |= not self._options.rounds

    def finished(self) -> None:
        """What it has to play is played."""
        self._finished = True

    def failed(self, failure: GameFailure, now: float, *, stopping: bool) -> GameFailure:
        """It has failed: whether and when it begins again."""
        self.reported = True
        self.said = ""
        self._part = replace(
            self._part,
            begun=self._part.begun + 1,
            failures=self._part.failures + 1,
            frames=None if self._frames is None else self._left(),
        )
        if self._options.rounds and self._round is None:  # its next round begins anew
            self.absent = True
            self._part = replace(self._part, played=0, failures=0)
        through = self._finished or self._part.frames == 0
        wait_s = None
        if not (stopping or through or failure.permanent):
            wait_s = self._tries.failed(now)
        self.given_up = wait_s is None and not through and not stopping
        self.over = wait_s is None
        if wait_s is not None:
            self._begins_at = now + wait_s
        failure = replace(failure, again_s=wait_s, given_up=self.given_up)
        self.failures.append(failure)
        return failure

    def _left(self) -> int:
        """Frames that are left of its share."""
        assert self._frames is not None
        return max(0, self._frames - int(self._counts.actions[self.client]))

    def _where(self) -> str:
        """What its process wrote of where it was."""
        with contextlib.suppress(OSError):
            return self._part.trace.read_text(errors="replace")
        return ""


def _ended(code: int) -> str:
    """How a process ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
