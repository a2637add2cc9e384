"""`understudy play`: the game side alone, against a server that runs somewhere."""

from __future__ import annotations

import argparse
import math
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from server.arguments import add_weaken, look_here, parse_address, positive
from server.play.client_options import add_connection_options, add_failure_options, token_of
from server.play.env_options import add_env_options, env_options
from server.play.evaluator import EPISODES, MOST_EPISODES, SEED, Evaluator
from server.play.failure_notice import FailureNotice
from server.play.game_messages import GameEpisode, GameOptions
from server.play.game_process import tls_of
from server.play.games import Games
from server.play.outage_notice import OutageNotice
from server.play.show_arguments import add_show_options, show_of, write_keys
from understudy_client.wire import ROLES

REPORT_S = 5.0

POLL_S = 0.2
EVALUATION_POLL_S = 0.02
"""Games that wait for an evaluation are not to wait long for this."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `understudy play`."""
    add = parser.add_argument
    add("--env", default="LunarLander-v3", help="a Gymnasium environment (%(default)s)")
    add(
        "--clients",
        type=positive,
        default=1,
        help="number of games, each in its own process (%(default)s)",
    )
    add(
        "--connect",
        type=parse_address,
        default=("127.0.0.1", 7777),
        metavar="HOST:PORT",
        help="the server (127.0.0.1:7777)",
    )
    add(
        "--role",
        choices=ROLES,
        default="train",
        help="train; eval: the network plays alone; eval_expert: the expert does; play: "
        "the network does, and no evaluation counts it (%(default)s)",
    )
    add(
        "--realtime",
        action="store_true",
        help="the games go on by themselves, with a person at the controls for example: they never "
        "wait for the trainer",
    )
    add("--episodes", type=positive, help="stop after this many, all games together")
    add("--frames", type=positive, help="stop after this many, all games together")
    add(
        "--seed",
        type=int,
        help="episode i of all games is reset with seed + i; one in which a game failed is tried "
        "again with another seed",
    )
    add(
        "--expert",
        metavar="MODULE:FUNCTION",
        help="an expert instead of the known one; none: no expert",
    )
    add_weaken(parser, float)
    add(
        "--eval-every",
        type=positive,
        metavar="FRAMES",
        help="evaluate before the first frame and after every FRAMES frames; training games wait "
        "meanwhile. The expert is evaluated once, at the start, from the same seeds",
    )
    add(
        "--eval-episodes",
        type=_evaluation_episodes,
        default=EPISODES,
        metavar="N",
        help="episodes of an evaluation (%(default)s)",
    )
    add(
        "--eval-seed",
        type=int,
        default=SEED,
        metavar="SEED",
        help="episode i of every evaluation is reset with SEED + i (%(default)s)",
    )
    add_env_options(parser)
    add_show_options(parser, "the network")
    add(
        "--write-keys",
        type=Path,
        metavar="FILE",
        help="write the keys of --env to a new file, to be edited, and end",
    )
    add_failure_options(parser)
    add_connection_options(parser)
    add("--policy", metavar="FILE", help="play in this process with an exported policy, no server")


class _Stop(Exception):
    """Somebody wants this to end."""


def main(args: argparse.Namespace) -> int:
    """Play until the episodes or frames are through, the server refuses, or a signal comes.

    Returns the exit code: 0, 1 where all games were given up, 2 for a wrong option.
    """
    look_here()
    try:
        if args.write_keys is not None:
            print(write_keys(args.env, env_options(args), args.write_keys))
            return 0
        if args.policy is not None:
            return _play_policy(args)
        show = show_of(args)
        if show is not None and show.human is not None and args.role != "train":
            raise ValueError(
                f"--human: expected the role train with it, got {args.role}; in the others nothing "
                "is learnt of what a person does"
            )
        options = GameOptions(
            env=args.env,
            host=args.connect[0],
            port=args.connect[1],
            role=args.role,
            realtime=args.realtime,
            episodes=args.episodes,
            frames=args.frames,
            seed=args.seed,
            making=env_options(args),
            # A person is the expert, unless a script is asked for, too.
            expert=args.expert or ("none" if args.human else None),
            weaken=args.weaken,
            token=token_of(args),
            tls=args.tls,
            ca=args.ca,
            evaluates=args.role == "train",
            show=show,
            restarts=args.restarts,
            hang_s=args.hang_after,
        )
        tls_of(options)  # before any game is started
        if args.eval_every and args.role != "train":
            raise ValueError(f"--eval-every: expected the role train with it, got {args.role}")
        with _stop_on_signals() as stop:
            return _Play(args, options, stop).run()
    except ValueError as error:
        print(f"understudy play: {error}", file=sys.stderr)
        return 2


class _Play:
    """The games, their evaluation, and what is printed of both."""

    def __init__(
        self, args: argparse.Namespace, options: GameOptions, stop: threading.Event
    ) -> None:
        """Errors: ValueError for options that cannot work."""
        self._args = args
        self._stop = stop
        self._games = Games(options)
        self._options = options
        self._evaluator: Evaluator | None = None
        self._due: int | None = 0 if args.eval_every else None
        """Frames at which an evaluation is due."""
        self._answered = 0
        """The newest evaluation that was made because the server asked for it."""
        self._absence = OutageNotice()
        self._notice = FailureNotice("play")
        self._expert: str | None = None
        """What the expert scored, once it has been evaluated."""

    def run(self) -> int:
        """Play; the exit code."""
        args, games = self._args, self._games
        done: list[GameEpisode] = []
        shown = 0
        start = reported = time.monotonic()
        with ExitStack() as stack:
            stack.enter_context(games)
            games.start(args.clients, limit=self._due)
            if args.eval_every:
                self._start_evaluator(stack)
            host, port = args.connect
            print(f"{args.clients} games connect to {host}:{port}; Ctrl-C stops them", flush=True)
            over = False
            with suppress(_Stop):
                while not over:
                    over = games.wait(EVALUATION_POLL_S if self._evaluator else POLL_S)
                    self._check()
                    if self._due is not None and games.frames >= self._due:
                        self._due += args.eval_every
                        self._evaluate(stack)
                    elif games.asked > self._answered and not over:
                        print("the server asks for an evaluation", flush=True)
                        games.hold()
                        self._evaluate(stack)
                        self._answered = games.asked
                    done += games.episodes()
                    if time.monotonic() - reported >= REPORT_S:
                        reported = time.monotonic()
                        if len(done) > shown:
                            shown = len(done)
                            print(summary(done[-20:], "the last "), flush=True)
        done += games.episodes()
        failed = games.all_given_up
        self._notice.tell(*self._players())
        if done or not failed:
            print(f"{summary(done)}, {time.monotonic() - start:.1f} s", flush=True)
        self._notice.summary(*self._players())
        return 1 if failed else 0

    def _start_evaluator(self, stack: ExitStack) -> Evaluator:
        """Games for evaluations, from now until `stack` ends."""
        self._evaluator = Evaluator(self._options, self._wait, seed=self._args.eval_seed)
        stack.enter_context(self._evaluator)
        self._evaluator.start(self._args.eval_episodes)
        return self._evaluator

    def _evaluate(self, stack: ExitStack) -> None:
        """Evaluate now, the expert once, and say what came of it."""
        evaluator = self._evaluator or self._start_evaluator(stack)
        first = self._expert is None
        played = evaluator.evaluate(self._games, self._args.eval_episodes, expert=first)
        self._games.go_on(self._due)
        if first:
            evaluator.dismiss_expert()
            self._expert = mean_return(played.teacher)
        missing = f" ({played.missing} missing: incomplete)" if played.missing else ""
        print(
            f"evaluation after {played.frames} frames, {len(played.student)} episodes{missing}: "
            f"network {mean_return(played.student)}, expert {self._expert}",
            flush=True,
        )

    def _wait(self) -> None:
        """A moment. Errors: _Stop."""
        self._stop.wait(EVALUATION_POLL_S)
        self._check()

    def _check(self) -> None:
        self._notice.tell(*self._players())
        if self._stop.is_set():
            raise _Stop
        troubles = self._games.troubles + (self._evaluator.troubles if self._evaluator else [])
        if not troubles and self._games.all_given_up:
            return  # nobody is without the server, and nobody is there
        if line := self._absence.line(troubles, time.monotonic()):
            print(line, flush=True)

    def _players(self) -> list[Games]:
        return [self._games, *(self._evaluator.players if self._evaluator else [])]


def _play_policy(args: argparse.Namespace) -> int:
    """The same without a server: an exported policy plays here."""
    from server.play.play_policy import play
    from server.play.policy_file import PolicyError

    start = time.monotonic()
    try:
        with _stop_on_signals() as stop:
            done = play(args, stop.is_set)
    except PolicyError as error:
        print(f"understudy play: {error}", file=sys.stderr)
        return 1
    print(f"{summary(done)}, {time.monotonic() - start:.1f} s", flush=True)
    return 0


def summary(episodes: Sequence[GameEpisode], prefix: str = "") -> str:
    """One line about some episodes; +- is the standard error of the mean."""
    if not episodes:
        return "no complete episode"
    frames = sum(episode.length for episode in episodes)
    expert = sum(episode.expert for episode in episodes) / max(frames, 1)
    return (
        f"{prefix}{len(episodes)} episodes: {frames} frames, {expert:.1%} expert, "
        f"mean return {mean_return(episodes)}"
    )


def mean_return(episodes: Sequence[GameEpisode]) -> str:
    """The mean return of some episodes with its standard error, "none" without any; apart from it
    those that were cut."""
    cut = [episode.return_ for episode in episodes if episode.cut]
    returns = [episode.return_ for episode in episodes if not episode.cut]
    text = "none"
    if returns:
        text = f"{statistics.fmean(returns):.1f}"
    if len(returns) > 1:
        text += f" +- {statistics.stdev(returns) / math.sqrt(len(returns)):.1f}"
    if cut:
        text += f" ({len(cut)} episodes cut by the server's limit, at {statistics.fmean(cut):.1f})"
    return text


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; their handlers are as before behind it."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _evaluation_episodes(text: str) -> int:
    number = positive(text)
    if number > MOST_EPISODES:
        raise argparse.ArgumentTypeError(f"expected at most {MOST_EPISODES}, got {number}")
    return number
