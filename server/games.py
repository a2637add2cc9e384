"""Games of Gymnasium, each a real client over TCP in a process of its own.

    this process                                   one process per game
    Games ── "stop", or gone ──▶ pipe ──▶ a thread that waits for it sets `stop`
      ▲                                            play(env, client, ...)
      └── results ◀── a reader thread ◀── pipe ◀── Episode, Failure

Each game has a pipe of its own and one thread here reads them all: no lock is shared with a game,
so one that is killed blocks nobody, and games end by themselves when this process is gone.
A game imports neither torch nor anything of this server but this module.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import signal
import threading
from dataclasses import dataclass, field
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from understudy_client import AnswerLog, Backoff, Cancelled, Client, ClientError
from understudy_client import gym as client_gym
from understudy_client.experts import find, make, weakened
from understudy_client.wire import ROLES

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
    give_up_s: float = 60.0
    """How long a game tries to reach a server that is away."""
    log_dir: Path | None = None
    """Where each game writes its answers when it ends: client-<n>.npz (see AnswerLog)."""


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
        self._reader = threading.Thread(target=self._read, name="games", daemon=True)

    def start(self, clients: int) -> None:
        """Start this many games. Those for which no episode or frame is left are not started."""
        if self._processes:
            raise RuntimeError("these games were started before; make new ones")
        if self.options.log_dir is not None:
            self.options.log_dir.mkdir(parents=True, exist_ok=True)
        spawn = multiprocessing.get_context("spawn")
        # A game that is still starting has no handlers yet, and Ctrl-C reaches it all the same:
        # it starts with the signals held back. (The tracker would let them through if it were
        # started within.)
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            for client in range(clients):
                episodes = _share(self.options.episodes, client, clients)
                frames = _share(self.options.frames, client, clients)
                if 0 in (episodes, frames):
                    continue
                ours, theirs = spawn.Pipe()
                process = spawn.Process(
                    target=_game,
                    args=(self.options, client, clients, episodes, frames, theirs),
                    name=f"game-{client}",
                )
                process.start()
                theirs.close()
                self._processes.append(process)
                self._living.append(process)
                self._pipes.append(ours)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._reader.start()

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
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send("stop")
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
                else:
                    self.failures.append(message)

    def _ended(self, process: BaseProcess) -> None:
        process.join()
        self._living.remove(process)
        if process.exitcode:
            self._failed(process, f"ended with exit code {process.exitcode}")

    def _failed(self, process: BaseProcess, what: str) -> None:
        """Note a failure that the game itself could not report."""
        client = int(process.name.removeprefix("game-"))
        if not any(failure.client == client for failure in self.failures):
            self.failures.append(Failure(client, f"game {client} {what}"))


def _share(total: int | None, client: int, clients: int) -> int | None:
    """A client's share of a total: that of client k is the number of i = k, k + clients, ..."""
    return None if total is None else len(range(client, total, clients))


def _game(
    options: GameOptions,
    client: int,
    clients: int,
    episodes: int | None,
    frames: int | None,
    pipe: Connection[Any, Any],
) -> None:
    """One game: the whole life of its process."""
    stop = threading.Event()
    # Ctrl-C reaches the whole group of processes; whoever started the games decides about them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_await_stop, args=(pipe, stop), daemon=True).start()
    log = AnswerLog() if options.log_dir is not None else None

    def report(episode: client_gym.Episode) -> None:
        dqn, expert = episode.actors[1], episode.actors[2]
        index = client + episode.index * clients
        pipe.send(Episode(client, index, episode.return_, episode.length, dqn, expert))

    try:
        _play(options, client, clients, episodes, frames, stop, log, report)
    except Cancelled:
        pass  # stopped while it waited for the server
    except BrokenPipeError:
        pass  # whoever started the games is gone
    except Exception as error:
        message = str(error) if isinstance(error, ClientError | ValueError | TypeError) else ""
        if not stop.is_set():
            with contextlib.suppress(OSError):
                pipe.send(Failure(client, message or f"{type(error).__name__}: {error}"))
    finally:
        if log is not None and options.log_dir is not None:
            log.save(options.log_dir / f"client-{client}.npz")


def _play(
    options: GameOptions,
    client: int,
    clients: int,
    episodes: int | None,
    frames: int | None,
    stop: threading.Event,
    log: AnswerLog | None,
    report: Any,
) -> None:
    env = make(options.env)
    # The network alone asks nobody: what is not needed is not computed.
    expert = None if options.role == "eval" else find(options.env, options.expert)
    if expert is not None and options.weaken > 0:
        rng = np.random.default_rng(None if options.seed is None else (options.seed, client))
        expert = weakened(expert, options.weaken, rng)
    try:
        with Client.connect(
            options.host,
            options.port,
            client=f"understudy-play/{client}",
            role=options.role,
            token=options.token,
            backoff=Backoff(give_up_s=options.give_up_s),
            cancelled=stop.is_set,
            on_answer=log.add if log is not None else None,
            **client_gym.spec_of(env).fields(),
        ) as connected:
            client_gym.play(
                env,
                connected,
                expert=expert,
                episodes=episodes,
                frames=frames,
                seed=None if options.seed is None else options.seed + client,
                seed_stride=clients,
                on_episode=report,
                stop=stop.is_set,
            )
    finally:
        env.close()


def _await_stop(pipe: Connection[Any, Any], stop: threading.Event) -> None:
    """Wait for the word, or for the other end to be gone."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    stop.set()
