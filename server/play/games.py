"""Games of Gymnasium, each a real client over TCP in a process of its own.

    this process                                   one process per game (server.play.game_process)
    Games ── an order, or gone ──▶ pipe ──▶ a thread that waits for orders
      ▲                                            play(env, client, ...)
      └── results ◀── a reader thread ◀── pipe ◀── GameEpisode, GameFailure, CommandDone, …
                                                    (server.play.game_messages)

Each game has a pipe of its own and one thread here reads them all: no lock is shared with a game,
so one that is killed blocks nobody, and games end by themselves when this process is gone. A game
that fails begins again in a new process (server.play.game_handle), and the others play on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import re
import tempfile
import threading
import time
from multiprocessing import connection
from pathlib import Path
from typing import Any

from server.play.game_handle import GameHandle
from server.play.game_messages import (
    NO_LIMIT,
    CommandDone,
    EpisodeJudged,
    EvaluationAsked,
    GameEpisode,
    GameFailure,
    GameFinished,
    GameOptions,
    ServerAway,
    SessionOpened,
    SharedCounts,
    share,
    taken,
)
from understudy_client.experts import find
from understudy_client.wire import ROLES

TICK_S = 0.2
"""How often it looks for games that hang or are due to begin again."""


def game_of(env: str) -> str | None:
    """The name of the game of a Gymnasium environment, as it says HELLO; None where only the
    environment itself knows it, because its name has no version."""
    name = env.rpartition(":")[2]
    return name if re.search(r"-v\d+$", name) else None


class Games:
    """Runs games and gathers their episodes.

    `results` gets every GameEpisode as it is completed; `failures` lists what ended a game early,
    be it that it begins again. Start it once; use it as a context manager or call `stop()`.
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
        self.unlogged: set[int] = set()
        """Sessions of processes that ended without writing their answers (`log_dir`)."""
        self.judged: queue.SimpleQueue[EpisodeJudged] = queue.SimpleQueue()
        """What persons say of episodes: each waits for `judgement_known`."""
        self._games: list[GameHandle] = []
        self.asked = 0
        """The newest evaluation that the server has asked for, 0 while there is none."""
        self._troubles: dict[int, str] = {}
        self._counts = SharedCounts([NO_LIMIT], [])
        self._lock = threading.Lock()
        """Held while games are told something or begin: one that begins misses no order."""
        self._stopping = False
        self._reader = threading.Thread(target=self._read, name="games", daemon=True)

    def start(self, clients: int, *, limit: int | None = None) -> None:
        """Start this many games. Those for which no episode or frame is left are not started.
        `limit`: training games are held at so many frames, as by `go_on`; at 0 they connect and
        wait."""
        if self._games:
            raise RuntimeError("these games were started before; make new ones")
        options = self.options
        if options.log_dir is not None:
            options.log_dir.mkdir(parents=True, exist_ok=True)
        spawn = multiprocessing.get_context("spawn")
        self._counts = SharedCounts(spawn.RawArray("q", clients + 1), spawn.RawArray("d", clients))
        self._limit(limit)
        self._traces = tempfile.TemporaryDirectory(prefix="understudy-games-")
        for client in range(clients):
            episodes = share(options.episodes, client, clients)
            frames = share(options.frames, client, clients)
            if 0 not in (episodes, frames):
                folder = Path(self._traces.name)
                where = options.of_client(client)
                game = GameHandle(where, client, clients, self._counts, folder)
                game.begin()
                self._games.append(game)
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

    def judgement_known(self, client: int) -> None:
        """What a person said of this game's episode is known to whoever records it."""
        with self._lock:
            self._games[client].order("judged", None)

    def leave(self) -> None:
        """Have games whose round is done leave the server; when they have, `all_said("left")`."""
        self._order("leave")

    def all_said(self, word: str) -> bool:
        """Whether every game that still plays has said this since the last order."""
        return all(game.over or game.has_said(word) for game in self._games)

    @property
    def troubles(self) -> list[str]:
        """What games say that are without the server now."""
        return list(self._troubles.values())

    @property
    def all_given_up(self) -> bool:
        """No game is left, and none has played what it had to play."""
        return bool(self._games) and all(game.given_up for game in self._games)

    def running(self) -> int:
        """How many games still play, or are about to begin again."""
        return sum(not game.over for game in self._games)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until all games have ended by themselves; False when the time is up."""
        self._reader.join(timeout_s)
        return not self._reader.is_alive()

    def stop(self, timeout_s: float = 15.0) -> None:
        """End all games and wait for them: each says BYE and writes its log.

        One that does not end within the time is killed and listed among the failures.
        """
        self._stopping = True
        self._order("stop")
        if not self._games:
            return
        # The reader alone waits for processes: of two threads that do, one may be told that a
        # process which has ended is still alive.
        self._reader.join(timeout_s)
        for game in self._games:
            if game.process is not None and self._reader.is_alive():
                self._kill(game, f"did not stop within {timeout_s:g} s and was killed")
        self._reader.join()
        self._traces.cleanup()

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
        """Until no game plays any more."""
        while living := [game for game in self._games if game.process or not game.over]:
            connection.wait([each for game in living for each in game.waits_on()], TICK_S)
            for game in living:
                self._look_after(game, time.monotonic())

    def _look_after(self, game: GameHandle, now: float) -> None:
        """Whatever has become of a game."""
        code = game.exit_code()  # first: all that it has said is read then
        for message in game.messages():
            self._hear(game, message)
        if code is not None:
            self._ended(game, code)
        elif game.hangs(now):
            self._kill(game, f"made no step for {self.options.hang_s:g} s and was killed")
        elif self._stopping and game.process is None:
            game.over = True  # it waited to begin again, and need not wait any more
        elif game.due(now):
            with self._lock:
                if not self._stopping:
                    game.begin()

    def _hear(self, game: GameHandle, message: Any) -> None:
        if isinstance(message, GameEpisode):
            game.completed()
            self.results.put(message)
        elif isinstance(message, EpisodeJudged):
            self.judged.put(message)
        elif isinstance(message, EvaluationAsked):
            self.asked = max(self.asked, message.number)
        elif isinstance(message, CommandDone):
            game.heard(message.word)
            self._let_go()
        elif isinstance(message, ServerAway):
            self._troubled(message)
        elif isinstance(message, SessionOpened):
            game.sessions.add(message.session)
        elif isinstance(message, GameFinished):
            game.finished()
        else:
            self._failed(game, message)

    def _troubled(self, message: ServerAway) -> None:
        if message.text:
            self._troubles[message.client] = message.text
        else:
            self._troubles.pop(message.client, None)

    def _let_go(self) -> None:
        """Where there are no rounds: when all games of evaluation are done, they may leave."""
        if not self.options.rounds and self._games and self.all_said("done"):
            self.leave()

    def _limit(self, frames: int | None) -> None:
        self._counts.actions[-1] = NO_LIMIT if frames is None else frames

    def _order(self, word: str, episodes: int | None = None) -> None:
        with self._lock:
            for game in self._games:
                if episodes is not None:
                    game.go(episodes)
                game.order(word, episodes)

    def _kill(self, game: GameHandle, what: str) -> None:
        """End a game's process, which is not going to."""
        where = game.kill()
        if not game.reported:
            self.unlogged |= game.sessions
            self._failed(game, GameFailure(game.client, what, where))

    def _ended(self, game: GameHandle, code: int) -> None:
        failure = None if self._stopping else game.died(code)
        if failure is not None:
            self.unlogged |= game.sessions
            self._failed(game, failure)
        elif not game.reported:
            game.over = True
        game.ended()
        if self._stopping:
            game.over = True
        self._troubles.pop(game.client, None)
        self._let_go()

    def _failed(self, game: GameHandle, failure: GameFailure) -> None:
        self.failures.append(game.failed(failure, time.monotonic(), stopping=self._stopping))
