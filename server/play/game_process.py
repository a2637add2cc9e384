"""One game's process: connects, plays, and does as it is told (server.play.game_messages).

It imports neither torch nor the rest of this server, so that many games start soon and take little.
Whatever goes wrong in it ends it, and only it: server.play.games begins it again.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from protocol.messages import EVALUATE
from server.play.game_errors import failure_of, write_where
from server.play.game_messages import (
    RESEED,
    CommandDone,
    EpisodeJudged,
    EvaluationAsked,
    GameEpisode,
    GameFinished,
    GameOptions,
    Part,
    SessionOpened,
    SharedCounts,
    share,
    taken,
)
from server.play.game_orders import PING_S, Orders, PassOn, StarterGone
from server.play.made_game import MadeGame, made_game, shown_of
from server.play.person.first_game import view_of
from server.play.person.view import GameView
from server.signals import STOPPING
from understudy_client import (
    AnswerLog,
    Backoff,
    Cancelled,
    Client,
    Reconnected,
    tls,
    trouble,
)
from understudy_client import gym as client_gym
from understudy_client.experts import find, weakened

MAKE_S = 120.0
"""What making an environment may take beyond a frame: imports, while many games start at once."""


def main(part: Part, pipe: Connection[Any, Any], counts: SharedCounts) -> None:
    """One game: the whole life of its process."""
    options, client = part.options, part.client
    orders = Orders(pipe, client, counts)
    # Ctrl-C, and a service manager's SIGTERM, reach the whole group of processes; whoever started
    # the games decides about them. SIGTERM still ends what an environment starts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    write_where(part.trace)
    trouble.log.addHandler(PassOn(client, orders))
    trouble.log.setLevel(logging.INFO)
    trouble.log.propagate = False
    log = AnswerLog() if options.log_dir is not None else None
    closing = ExitStack()
    try:
        if options.rounds:
            _rounds(part, orders, counts, closing)
        else:
            _play(part, orders, counts, closing, log)
    except (Cancelled, StarterGone):
        pass  # stopped while it waited for the server, or nobody is there to be told
    except BaseException as error:  # sys.exit() in an environment is no end in order
        if not orders.stop.is_set():
            with contextlib.suppress(StarterGone):
                orders.tell(failure_of(client, error))
    finally:
        if log is not None and options.log_dir is not None:
            again = f"-{part.begun}" if part.begun else ""
            log.save(options.log_dir / f"client-{client}{again}.npz")
        # What has failed is told by now: closing may fail too, or hang.
        with contextlib.suppress(Exception):
            closing.close()


def tls_of(options: GameOptions) -> ssl.SSLContext | None:
    """What to connect with; None for no TLS. Errors: ValueError for a file that cannot be used."""
    if options.own is None:
        return tls.context(options.tls, options.ca)
    context = tls.context(True, options.own)
    assert context is not None
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # whoever signed it
    return context


def _rounds(part: Part, orders: Orders, counts: SharedCounts, closing: ExitStack) -> None:
    """Wait for a round, play it, and again."""
    while (order := orders.take())[0] != "stop":
        if order[0] == "go":
            episodes = share(order[1], part.client, part.clients)
            _play(replace(part, episodes=episodes), orders, counts, closing)
            part = replace(part, played=0, failures=0)
        else:  # a round without an episode for this game: it has not been on the server
            orders.tell(CommandDone(part.client, "left"))


def _play(
    part: Part,
    orders: Orders,
    counts: SharedCounts,
    closing: ExitStack,
    log: AnswerLog | None = None,
) -> None:
    """From connecting to leaving. `closing` closes the environment where it has not come so far."""
    if part.episodes is not None and part.episodes <= part.played:
        orders.tell(CommandDone(part.client, "done"))
        return
    orders.alive(MAKE_S)
    game = made_game(part, closing)
    orders.alive()
    _connect_and_play(part, orders, counts, log, game, closing)
    if part.options.role != "train":
        orders.tell(CommandDone(part.client, "left"))
    if not part.options.rounds:
        orders.tell(GameFinished(part.client))
    orders.alive()
    closing.close()


def _connect_and_play(
    part: Part,
    orders: Orders,
    counts: SharedCounts,
    log: AnswerLog | None,
    game: MadeGame,
    closing: ExitStack,
) -> None:
    options, client, clients = part.options, part.client, part.clients
    show = shown_of(part)
    view: GameView | None = None

    cut = False

    def report(episode: client_gym.Episode) -> None:
        nonlocal cut
        cut = cut or episode.cut
        dqn, by_expert = episode.actors[1], episode.actors[2]
        index = client + (part.played + episode.index) * clients
        orders.tell(
            GameEpisode(client, index, episode.return_, episode.length, dqn, by_expert, episode.cut)
        )

    heard = time.monotonic()
    """When the server last was."""

    def count(session: int, answer: Any) -> None:
        nonlocal heard
        heard = time.monotonic()
        counts.actions[client] += answer.action is not None
        orders.alive()
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
            orders.tell(SessionOpened(client, session))
        elif number > known:
            known = number
            orders.tell(EvaluationAsked(number))

    def between() -> bool:
        """Between two frames: wait while the games are held; whether this one is to end. Errors:
        Reconnected, once it may go on, where the connection was lost meanwhile."""
        if cut:
            return True  # the evaluation cannot be complete any more: others need not wait for it
        listen()
        orders.alive()
        lost: Reconnected | None = None
        # More than once where an order to go on is older than the hold.
        while taken(counts) >= counts.actions[clients] and not orders.stop.is_set():
            orders.tell(CommandDone(client, "held"))
            word = ""
            while word not in ("go", "stop"):
                try:
                    word = orders.take(connected)[0]
                except Reconnected as error:
                    lost = error
            listen()
            orders.alive()
        if lost is not None:
            raise lost
        return orders.stop.is_set() or (view is not None and view.ended)

    def judge(word: str) -> None:
        """Tell what a person says of the episode, and wait until it is known."""
        orders.tell(EpisodeJudged(client, connected.session, word))
        while orders.take(connected)[0] not in ("judged", "stop"):
            pass

    def wait() -> None:
        """A person, or the clock, is waited for."""
        nonlocal heard
        orders.alive()
        if time.monotonic() - heard >= PING_S:  # not to be taken for dead
            connected.ping()
            heard = time.monotonic()

    expert = _expert(part)
    if show is not None:
        alone = show.records and expert is None
        view = view_of(
            game.env, game.spec, show, closing, alone=alone, stopped=orders.stop.is_set,
            waiting=wait, judge=judge,
        )  # fmt: skip
    left = None if part.episodes is None else part.episodes - part.played
    announced = None if options.role == "train" or left is None else left * game.slots
    with Client.connect(
        options.host,
        options.port,
        client=f"understudy-play/{client}",
        slots=game.slots,
        role=options.role,
        realtime=options.realtime or (show is not None and show.human is not None),
        episodes=announced,
        evaluates=options.evaluates,
        metrics=options.making.metrics,
        token=options.token,
        tls=tls_of(options) or False,
        backoff=Backoff(give_up_s=options.give_up_s),
        cancelled=orders.stopped,
        on_answer=count,
        **game.spec.fields(),
    ) as connected:
        shown = {} if view is None else {"person": view}
        game.play(
            game.env,
            connected,
            expert=expert,
            episodes=left,
            frames=part.frames,
            seed=_seeds(part),
            on_episode=report,
            stop=between,
            **shown,
        )
        if options.role != "train":
            _stay(client, connected, orders)


def _expert(part: Part) -> client_gym.Expert | None:
    options = part.options
    # The network alone asks nobody: what is not needed is not computed.
    expert = None if options.role in ("eval", "play") else find(options.env, options.expert)
    if expert is not None and options.weaken > 0:
        again = (part.begun,) if part.begun else ()
        seed = None if options.seed is None else (options.seed, part.client, *again)
        expert = weakened(expert, options.weaken, np.random.default_rng(seed))
    return expert


def _seeds(part: Part) -> Callable[[int], int] | None:
    """The seed of this process's i-th episode."""
    seed = part.options.seed
    if seed is None:
        return None
    first = seed + part.client + part.played * part.clients
    return lambda i: first + i * part.clients + (0 if i else part.failures * RESEED)


def _stay(client: int, connected: Client, orders: Orders) -> None:
    """A game of evaluation is done: stay with the server until it may leave."""
    if orders.stop.is_set():
        return
    orders.tell(CommandDone(client, "done"))
    word = ""
    while word not in ("leave", "stop"):
        with contextlib.suppress(Reconnected):  # no matter: what it had to play is played
            word = orders.take(connected)[0]
