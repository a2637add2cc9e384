"""Games of Gymnasium, each a real client over TCP in a process of its own.

    this process                                   one process per game (server.play.game_process)
    Games ── an order, or gone ──▶ pipe ──▶ a thread that waits for orders
      ▲                                            play(env, client, ...)
      └── results ◀── a reader thread ◀── pipe ◀── GameEpisode, GameFailure, CommandDone, …
                                                    (server.play.game_messages)

Each game has a pipe of its own and one thread here reads them all: no lock is shared with a game,
so one that is killed blocks nobody, and games end by themselves when this process is gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import threading
import time
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from server.play import game_process
from server.play.game_messages import (
    NO_LIMIT,
    CommandDone,
    EpisodeLimit,
    EvaluationAsked,
    GameEpisode,
    GameFailure,
    GameOptions,
    Part,
    ServerAway,
    share,
    taken,
)
from server.signals import signals_blocked
from understudy_client.experts import find
from understudy_client.wire import ROLES

STUCK_S = 30.0
"""So much longer than the limit of an episode, a game may do nothing before it counts as stuck."""

UNLIMITED_S = 600.0
"""The limit of an episode, where the server says none."""


class Games:
    """Runs games and gathers their episodes.

    `results` gets every GameEpisode as it is completed; `failures` lists what ended a game early.
    Start it once; use it as a context manager or call `stop()`.
    """

    def __init__(self, options: GameOptions) -> None:
        if options.role not in ROLES:
            raise ValueError(f"role: expected {', '.join(ROLES)}, got {options.role!r}")
        # Found here too, so that a misspelt expert is one message and not one for each game.
        expert = find(options.env, options.expert)
        if options.role == "eval_expert" and expert is None:
            raise ValueError(
                f"role eval_expert needs an expert, and none is known for {options.env!r}; "
                "name one as module:function"
            )
        if not 0.0 <= options.weaken <= 1.0:
            raise ValueError(f"weaken: expected 0 to 1, got {options.weaken}")
        self.options = options
        self.results: queue.SimpleQueue[GameEpisode] = queue.SimpleQueue()
        self.failures: list[GameFailure] = []
        self._processes: list[BaseProcess] = []
        self._living: list[BaseProcess] = []
        """Those that the reader has not seen end."""
        self._pipes: list[Connection[Any, Any]] = []
        self.asked = 0
        """The newest evaluation that the server has asked for, 0 while there is none."""
        self._troubles: dict[int, str] = {}
        self._limit_s = UNLIMITED_S
        """That an episode of evaluation may take, as the server says."""
        self._moved: dict[int, tuple[int, float]] = {}
        """Actions of each game when it was last seen to have taken one, and when that was."""
        self._stuck: set[int] = set()
        """Games that were killed because they were stuck."""
        self._said: dict[int, str] = {}
        """What each game said last, since the last order."""
        self._counts: Any = [NO_LIMIT]
        """Actions of each game, and last the limit: memory that the games share."""
        self._reader = threading.Thread(target=self._read, name="games", daemon=True)

    def start(self, clients: int, *, limit: int | None = None) -> None:
        """Start this many games. Those for which no episode or frame is left are not started.
        `limit`: training games are held at so many frames, as by `go_on`; at 0 they connect and
        wait."""
        if self._processes:
            raise RuntimeError("these games were started before; make new ones")
        if self.options.log_dir is not None:
            self.options.log_dir.mkdir(parents=True, exist_ok=True)
        spawn = multiprocessing.get_context("spawn")
        self._counts = counts = spawn.RawArray("q", clients + 1)
        self._limit(limit)
        with signals_blocked():
            for client in range(clients):
                episodes = share(self.options.episodes, client, clients)
                frames = share(self.options.frames, client, clients)
                if 0 in (episodes, frames):
                    continue
                ours, theirs = spawn.Pipe()
                process = spawn.Process(
                    target=game_process.main,
                    args=(
                        Part(self.options, client, clients, episodes, frames),
                        theirs,
                        counts,
                    ),
                    name=f"game-{client}",
                )
                process.start()
                theirs.close()
                self._processes.append(process)
                self._living.append(process)
                self._pipes.append(ours)
        self._reader.start()

    @property
    def frames(self) -> int:
        """Actions that all games together have taken."""
        return taken(self._counts)

    def hold(self) -> None:
        """Have training games wait, each before its next frame, until `go_on`; when they do,
        `all_said("held")`."""
        self._limit(0)

    def go_on(self, limit: int | None = None) -> None:
        """Have held games play on until all together have taken so many actions; when all are held
        again, `all_said("held")`."""
        self._limit(limit)
        self._order("go")

    def go(self, episodes: int) -> None:
        """With rounds: play this many episodes, all games together; when they are through,
        `all_said("done")`."""
        self._order("go", episodes)

    def leave(self) -> None:
        """Have games whose round is done leave the server; when they have, `all_said("left")`."""
        self._order("leave")

    def all_said(self, word: str) -> bool:
        """Whether every game that still runs has said this since the last order."""
        return all(self._said.get(_number(process)) == word for process in list(self._living))

    def kill_stuck(self, word: str) -> int:
        """Kill games of evaluation that have taken no action for longer than an episode may last,
        and have not said this word; how many were killed since the start. Ask again and again."""
        now = time.monotonic()
        for process in list(self._living):
            client = _number(process)
            count = self._counts[client]
            before, since = self._moved.get(client, (-1, now))
            if count != before or self._said.get(client) == word:
                self._moved[client] = (count, now)
            elif now - since > self._limit_s + STUCK_S:
                self._stuck.add(client)
                process.kill()
        return len(self._stuck)

    @property
    def troubles(self) -> list[str]:
        """What games say that are without the server now."""
        return list(self._troubles.values())

    def running(self) -> int:
        """How many games still play."""
        return len(self._living)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until all games have ended by themselves; False when the time is up."""
        self._reader.join(timeout_s)
        return not self._reader.is_alive()

    def stop(self, timeout_s: float = 15.0) -> None:
        """End all games and wait for them: each says BYE and writes its log.

        One that does not end within the time is killed and listed among the failures.
        """
        self._order("stop")
        if not self._processes:
            return
        # The reader alone waits for processes: of two threads that do, one may be told that a
        # process which has ended is still alive.
        self._reader.join(timeout_s)
        for process in list(self._living):
            self._failed(process, f"did not stop within {timeout_s:g} s and was killed")
            process.kill()
        self._reader.join()

    def episodes(self) -> list[GameEpisode]:
        """Take what is in `results` now."""
        out = []
        with contextlib.suppress(queue.Empty):
            while True:
                out.append(self.results.get_nowait())
        return out

    def __enter__(self) -> Games:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _read(self) -> None:
        pipes = dict(zip(self._pipes, self._processes, strict=True))
        while pipes:
            for pipe in connection.wait(list(pipes)):
                assert isinstance(pipe, Connection)
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    self._ended(pipes.pop(pipe))
                    continue
                if isinstance(message, GameEpisode):
                    self.results.put(message)
                elif isinstance(message, EvaluationAsked):
                    self.asked = max(self.asked, message.number)
                elif isinstance(message, EpisodeLimit):
                    self._limit_s = message.seconds
                elif isinstance(message, CommandDone):
                    self._said[message.client] = message.word
                    self._let_go()
                elif isinstance(message, ServerAway):
                    self._troubled(message)
                else:
                    self.failures.append(message)

    def _troubled(self, message: ServerAway) -> None:
        if message.text:
            self._troubles[message.client] = message.text
        else:
            self._troubles.pop(message.client, None)

    def _let_go(self) -> None:
        """Where there are no rounds: when all games of evaluation are done, they may leave."""
        if not self.options.rounds and self._said and self.all_said("done"):
            self.leave()

    def _limit(self, frames: int | None) -> None:
        self._counts[-1] = NO_LIMIT if frames is None else frames

    def _order(self, word: str, episodes: int | None = None) -> None:
        self._said.clear()
        self._moved.clear()
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send((word, episodes))

    def _ended(self, process: BaseProcess) -> None:
        process.join()
        self._living.remove(process)
        if process.exitcode and _number(process) not in self._stuck:
            self._failed(process, f"ended with exit code {process.exitcode}")
        self._troubles.pop(_number(process), None)
        self._let_go()

    def _failed(self, process: BaseProcess, what: str) -> None:
        """Note a failure that the game itself could not report."""
        client = _number(process)
        if not any(failure.client == client for failure in self.failures):
            self.failures.append(GameFailure(client, f"game {client} {what}"))


def _number(process: BaseProcess) -> int:
    """The number of a game."""
    return int(process.name.removeprefix("game-"))
