"""Games of Gymnasium, each a real client over TCP in a process of its own.

    this process                                   one process per game
    Games ── an order, or gone ──▶ pipe ──▶ a thread that waits for orders
      ▲                                            play(env, client, ...)
      └── results ◀── a reader thread ◀── pipe ◀── Episode, Failure, Said, Trouble

Each game has a pipe of its own and one thread here reads them all: no lock is shared with a game,
so one that is killed blocks nobody, and games end by themselves when this process is gone.
A game imports neither torch nor anything of this server but this module.

Orders, and what a game says to them:

    go      a training game that is held plays on. A game of evaluation that plays in rounds:
            it connects, plays its share of so many episodes, and says "done"
    leave   a game of evaluation that is done leaves the server, and says "left". Without rounds
            they are told once all are done: to the server, one that is quick and one that is still
            on its way must not look like two evaluations
    stop    it ends

Training games are held by a number of frames: when all together have taken so many actions, each
waits between two frames, connected, and says "held". They count in memory that they share, so that
they stop there and not some polls later.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import queue
import signal
import ssl
import threading
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from protocol.messages import EVALUATE
from server.held_back import SIGNALS, signals_held_back
from understudy_client import (
    AnswerLog,
    Backoff,
    Cancelled,
    Client,
    ClientError,
    Reconnected,
    tls,
    trouble,
)
from understudy_client import gym as client_gym
from understudy_client.experts import find, make, weakened
from understudy_client.wire import ROLES

PING_S = 2.0
"""How often a game that waits lets the server know that it is there."""

NO_LIMIT = 2**63 - 1
"""Frames that no games reach."""


@dataclass(frozen=True)
class GameOptions:
    """What to play, and where."""

    env: str
    host: str
    port: int
    role: str = "train"
    """train; eval (the network alone); eval_expert (the expert alone)."""
    episodes: int | None = None
    """Complete episodes, all games together; None plays until stopped."""
    frames: int | None = None
    """Actions, all games together."""
    seed: int | None = None
    """Episode i of all games together is reset with seed + i, whoever plays it."""
    expert: str | None = None
    """`module:function`, "none", or None for the environment's known expert."""
    weaken: float = 0.0
    """The share of the expert's actions that are replaced by random ones."""
    token: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    """With TLS: the certificate to trust instead of the system's."""
    own: Path | None = None
    """The certificate of a server in this process's care: it is that server, whatever name or
    address its certificate is of."""
    give_up_s: float = 60.0
    """How long a game tries to reach a server that is away."""
    log_dir: Path | None = None
    """Where each game writes its answers when it ends: client-<n>.npz (see AnswerLog)."""
    rounds: bool = False
    """Games of evaluation: play the episodes that `go` asks for, from the same seeds each time."""


@dataclass(frozen=True)
class Episode:
    """One complete episode of one game."""

    client: int
    index: int
    """The number of the episode among those of all games."""
    return_: float
    length: int
    dqn: int
    """Actions that the network chose; `expert` those that the expert did."""
    expert: int


@dataclass(frozen=True)
class Said:
    """What a game has done as it was ordered to: held, done or left."""

    client: int
    word: str


@dataclass(frozen=True)
class Asked:
    """The server asks for an evaluation: a training game has been told (protocol/SPEC.md)."""

    number: int
    """Larger each time."""


@dataclass(frozen=True)
class Trouble:
    """A game is without the server, which it tries to reach; with an empty text, no longer."""

    client: int
    text: str


@dataclass(frozen=True)
class Failure:
    """Why a game ended before its time."""

    client: int
    message: str


class Games:
    """Runs games and gathers their episodes.

    `results` gets every Episode as it is completed; `failures` lists what ended a game early.
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
        self.results: queue.SimpleQueue[Episode] = queue.SimpleQueue()
        self.failures: list[Failure] = []
        self._processes: list[BaseProcess] = []
        self._living: list[BaseProcess] = []
        """Those that the reader has not seen end."""
        self._pipes: list[Connection[Any, Any]] = []
        self.asked = 0
        """The newest evaluation that the server has asked for, 0 while there is none."""
        self._troubles: dict[int, str] = {}
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
        with signals_held_back():
            for client in range(clients):
                episodes = _share(self.options.episodes, client, clients)
                frames = _share(self.options.frames, client, clients)
                if 0 in (episodes, frames):
                    continue
                ours, theirs = spawn.Pipe()
                process = spawn.Process(
                    target=_game,
                    args=(
                        _Part(self.options, client, clients, episodes, frames),
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
        return _total(self._counts)

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

    def episodes(self) -> list[Episode]:
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
                if isinstance(message, Episode):
                    self.results.put(message)
                elif isinstance(message, Asked):
                    self.asked = max(self.asked, message.number)
                elif isinstance(message, Said):
                    self._said[message.client] = message.word
                    self._let_go()
                elif isinstance(message, Trouble):
                    self._troubled(message)
                else:
                    self.failures.append(message)

    def _troubled(self, message: Trouble) -> None:
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
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send((word, episodes))

    def _ended(self, process: BaseProcess) -> None:
        process.join()
        self._living.remove(process)
        if process.exitcode:
            self._failed(process, f"ended with exit code {process.exitcode}")
        self._troubles.pop(_number(process), None)
        self._let_go()

    def _failed(self, process: BaseProcess, what: str) -> None:
        """Note a failure that the game itself could not report."""
        client = _number(process)
        if not any(failure.client == client for failure in self.failures):
            self.failures.append(Failure(client, f"game {client} {what}"))


def _share(total: int | None, client: int, clients: int) -> int | None:
    """A client's share of a total: that of client k is the number of i = k, k + clients, ..."""
    return None if total is None else len(range(client, total, clients))


def _total(counts: Any) -> int:
    """All games' actions: what their counts hold but for the limit behind them."""
    return sum(counts[:-1])


def _number(process: BaseProcess) -> int:
    """The number of a game."""
    return int(process.name.removeprefix("game-"))


@dataclass(frozen=True)
class _Part:
    """What one game has to do."""

    options: GameOptions
    client: int
    clients: int
    episodes: int | None
    frames: int | None


class _Orders:
    """What this game is told, in the order in which it is told it."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self.stop = threading.Event()
        self._waiting: queue.SimpleQueue[tuple[str, int | None]] = queue.SimpleQueue()
        self._pipe = pipe
        threading.Thread(target=self._listen, daemon=True).start()

    def take(self, client: Client | None = None) -> tuple[str, int | None]:
        """The next order, when it comes. `client` is kept from being idle meanwhile."""
        while not self.stop.is_set():
            try:
                return self._waiting.get(timeout=PING_S)
            except queue.Empty:
                if client is not None:
                    client.ping()
        return "stop", None

    def _listen(self) -> None:
        """Take orders in, until the last one or until the other end is gone."""
        order: tuple[str, int | None] = ("", None)
        while order[0] != "stop":
            try:
                order = self._pipe.recv()
            except (EOFError, OSError):
                order = ("stop", None)
            if order[0] == "stop":
                self.stop.set()
            self._waiting.put(order)


class _PassOn(logging.Handler):
    """What the client logs of its trouble, to whoever started the games: one for all of them."""

    def __init__(self, client: int, pipe: Connection[Any, Any]) -> None:
        super().__init__()
        self._client = client
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        """Errors: BrokenPipeError, where nobody is there to be told."""
        over = record.levelno < logging.WARNING
        self._pipe.send(Trouble(self._client, "" if over else record.getMessage()))


def _game(part: _Part, pipe: Connection[Any, Any], counts: Any) -> None:
    """One game: the whole life of its process."""
    orders = _Orders(pipe)
    # Ctrl-C reaches the whole group of processes; whoever started the games decides about them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: orders.stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    options, client = part.options, part.client
    trouble.log.addHandler(_PassOn(client, pipe))
    trouble.log.setLevel(logging.INFO)
    trouble.log.propagate = False
    log = AnswerLog() if options.log_dir is not None else None
    try:
        if options.rounds:
            _rounds(part, orders, pipe, counts)
        else:
            _play(part, orders, pipe, counts, log)
    except Cancelled:
        pass  # stopped while it waited for the server
    except BrokenPipeError:
        pass  # whoever started the games is gone
    except Exception as error:
        message = str(error) if isinstance(error, ClientError | ValueError | TypeError) else ""
        if not orders.stop.is_set():
            with contextlib.suppress(OSError):
                pipe.send(Failure(client, message or f"{type(error).__name__}: {error}"))
    finally:
        if log is not None and options.log_dir is not None:
            log.save(options.log_dir / f"client-{client}.npz")


def tls_of(options: GameOptions) -> ssl.SSLContext | None:
    """What to connect with; None for no TLS. Errors: ValueError for a file that cannot be used."""
    if options.own is None:
        return tls.context(options.tls, options.ca)
    made = tls.context(True, options.own)
    assert made is not None
    made.check_hostname = False
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # whoever signed it
    return made


def _rounds(part: _Part, orders: _Orders, pipe: Connection[Any, Any], counts: Any) -> None:
    """Wait for a round, play it, and again."""
    while (order := orders.take())[0] != "stop":
        if order[0] == "go":
            episodes = _share(order[1], part.client, part.clients)
            _play(replace(part, episodes=episodes), orders, pipe, counts)
        else:  # a round without an episode for this game: it has not been on the server
            pipe.send(Said(part.client, "left"))


def _play(
    part: _Part,
    orders: _Orders,
    pipe: Connection[Any, Any],
    counts: Any,
    log: AnswerLog | None = None,
) -> None:
    """From connecting to leaving."""
    options, client, clients = part.options, part.client, part.clients
    if part.episodes == 0:
        pipe.send(Said(client, "done"))
        return
    env = make(options.env)
    # The network alone asks nobody: what is not needed is not computed.
    expert = None if options.role == "eval" else find(options.env, options.expert)
    if expert is not None and options.weaken > 0:
        rng = np.random.default_rng(None if options.seed is None else (options.seed, client))
        expert = weakened(expert, options.weaken, rng)

    def report(episode: client_gym.Episode) -> None:
        dqn, by_expert = episode.actors[1], episode.actors[2]
        index = client + episode.index * clients
        pipe.send(Episode(client, index, episode.return_, episode.length, dqn, by_expert))

    def count(session: int, answer: Any) -> None:
        counts[client] += answer.action is not None
        if log is not None:
            log.add(session, answer)

    session, known = 0, 0

    def listen() -> None:
        """Pass on that the server asks for an evaluation. What was asked for before this game
        connected is not for it."""
        nonlocal session, known
        number = connected.settings.get(EVALUATE, 0)
        if connected.session != session:
            session, known = connected.session, number
        elif number > known:
            known = number
            pipe.send(Asked(number))

    def between() -> bool:
        """Between two frames: wait while the games are held; whether this one is to end. Errors:
        Reconnected, once it may go on, where the connection was lost meanwhile."""
        listen()
        if _total(counts) < counts[clients]:
            return orders.stop.is_set()
        lost: Reconnected | None = None
        pipe.send(Said(client, "held"))
        word = ""
        while word not in ("go", "stop"):
            try:
                word = orders.take(connected)[0]
            except Reconnected as error:
                lost = error
        listen()
        if lost is not None:
            raise lost
        return orders.stop.is_set()

    try:
        with Client.connect(
            options.host,
            options.port,
            client=f"understudy-play/{client}",
            role=options.role,
            token=options.token,
            tls=tls_of(options) or False,
            backoff=Backoff(give_up_s=options.give_up_s),
            cancelled=orders.stop.is_set,
            on_answer=count,
            **client_gym.spec_of(env).fields(),
        ) as connected:
            client_gym.play(
                env,
                connected,
                expert=expert,
                episodes=part.episodes,
                frames=part.frames,
                seed=None if options.seed is None else options.seed + client,
                seed_stride=clients,
                on_episode=report,
                stop=between,
            )
            if options.role != "train":
                _stay(client, connected, orders, pipe)
    finally:
        env.close()
    if options.role != "train":
        pipe.send(Said(client, "left"))


def _stay(client: int, connected: Client, orders: _Orders, pipe: Connection[Any, Any]) -> None:
    """A game of evaluation is done: stay with the server until it may leave."""
    if orders.stop.is_set():
        return
    pipe.send(Said(client, "done"))
    word = ""
    while word not in ("leave", "stop"):
        with contextlib.suppress(Reconnected):  # no matter: what it had to play is played
            word = orders.take(connected)[0]
