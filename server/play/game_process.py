"""One game's process: connects, plays, and does as it is told (server.play.game_messages).

It imports neither torch nor the rest of this server, so that many games start soon and take little.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import ssl
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from protocol.messages import EVALUATE
from server.play.game_messages import (
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
from server.signals import STOPPING
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

PING_S = 2.0
"""How often a game that waits lets the server know that it is there."""


class _PassOn(logging.Handler):
    """What the client logs of its trouble, to whoever started the games: one for all of them."""

    def __init__(self, client: int, pipe: Connection[Any, Any]) -> None:
        super().__init__()
        self._client = client
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        """Errors: BrokenPipeError, where nobody is there to be told."""
        over = record.levelno < logging.WARNING
        self._pipe.send(ServerAway(self._client, "" if over else record.getMessage()))


def main(part: Part, pipe: Connection[Any, Any], counts: Any) -> None:
    """One game: the whole life of its process."""
    orders = _Orders(pipe)
    # Ctrl-C reaches the whole group of processes; whoever started the games decides about them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: orders.stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
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
                pipe.send(GameFailure(client, message or f"{type(error).__name__}: {error}"))
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


def _rounds(part: Part, orders: _Orders, pipe: Connection[Any, Any], counts: Any) -> None:
    """Wait for a round, play it, and again."""
    while (order := orders.take())[0] != "stop":
        if order[0] == "go":
            episodes = share(order[1], part.client, part.clients)
            _play(replace(part, episodes=episodes), orders, pipe, counts)
        else:  # a round without an episode for this game: it has not been on the server
            pipe.send(CommandDone(part.client, "left"))


def _play(
    part: Part,
    orders: _Orders,
    pipe: Connection[Any, Any],
    counts: Any,
    log: AnswerLog | None = None,
) -> None:
    """From connecting to leaving."""
    options, client, clients = part.options, part.client, part.clients
    if part.episodes == 0:
        pipe.send(CommandDone(client, "done"))
        return
    env = make(options.env)
    # The network alone asks nobody: what is not needed is not computed.
    expert = None if options.role == "eval" else find(options.env, options.expert)
    if expert is not None and options.weaken > 0:
        rng = np.random.default_rng(None if options.seed is None else (options.seed, client))
        expert = weakened(expert, options.weaken, rng)

    cut = False

    def report(episode: client_gym.Episode) -> None:
        nonlocal cut
        cut = cut or episode.cut
        dqn, by_expert = episode.actors[1], episode.actors[2]
        index = client + episode.index * clients
        pipe.send(
            GameEpisode(client, index, episode.return_, episode.length, dqn, by_expert, episode.cut)
        )

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
            pipe.send(EvaluationAsked(number))

    def between() -> bool:
        """Between two frames: wait while the games are held; whether this one is to end. Errors:
        Reconnected, once it may go on, where the connection was lost meanwhile."""
        if cut:
            return True  # the evaluation cannot be complete any more: others need not wait for it
        listen()
        if taken(counts) < counts[clients]:
            return orders.stop.is_set()
        lost: Reconnected | None = None
        pipe.send(CommandDone(client, "held"))
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
            episodes=None if options.role == "train" else part.episodes,
            evaluates=options.evaluates,
            realtime=options.realtime,
            token=options.token,
            tls=tls_of(options) or False,
            backoff=Backoff(give_up_s=options.give_up_s),
            cancelled=orders.stop.is_set,
            on_answer=count,
            **client_gym.spec_of(env).fields(),
        ) as connected:
            if connected.episode_limit is not None:
                pipe.send(EpisodeLimit(client, connected.episode_limit[1]))
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
        pipe.send(CommandDone(client, "left"))


def _stay(client: int, connected: Client, orders: _Orders, pipe: Connection[Any, Any]) -> None:
    """A game of evaluation is done: stay with the server until it may leave."""
    if orders.stop.is_set():
        return
    pipe.send(CommandDone(client, "done"))
    word = ""
    while word not in ("leave", "stop"):
        with contextlib.suppress(Reconnected):  # no matter: what it had to play is played
            word = orders.take(connected)[0]
