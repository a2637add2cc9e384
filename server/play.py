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
from contextlib import contextmanager

from server.games import Episode, GameOptions, Games
from understudy_client.wire import ROLES

REPORT_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `understudy play`."""
    add = parser.add_argument
    add("--env", default="LunarLander-v3", help="a Gymnasium environment (%(default)s)")
    add("--clients", type=positive, default=1, help="games, each in a process (%(default)s)")
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
        help="train; eval: the network alone; eval_expert: the expert alone (%(default)s)",
    )
    add("--episodes", type=positive, help="stop after this many, all games together")
    add("--frames", type=positive, help="stop after this many, all games together")
    add("--seed", type=int, help="episode i of all games is reset with seed + i")
    add("--expert", metavar="MODULE:FUNCTION", help="an expert instead of the known one, or none")
    add("--weaken", type=float, default=0.0, metavar="SHARE", help="of the expert's actions, 0-1")
    add("--token", help="the server's token, where it asks for one")
    add("--policy", metavar="FILE", help="play in this process with an exported policy, no server")


def parse_address(text: str) -> tuple[str, int]:
    """`host:port` or `[ipv6]:port`."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 65536):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def main(args: argparse.Namespace) -> int:
    """Play until the episodes or frames are through, the server refuses, or a signal comes.

    Returns the exit code: 0, 1 where a game failed, 2 for a wrong option.
    """
    if args.policy is not None:
        return _play_policy(args)
    try:
        games = Games(
            GameOptions(
                env=args.env,
                host=args.connect[0],
                port=args.connect[1],
                role=args.role,
                episodes=args.episodes,
                frames=args.frames,
                seed=args.seed,
                expert=args.expert,
                weaken=args.weaken,
                token=args.token,
            )
        )
    except ValueError as error:
        print(f"understudy play: {error}", file=sys.stderr)
        return 2
    done: list[Episode] = []
    start = reported = time.monotonic()
    with _stop_on_signals() as stop, games:
        games.start(args.clients)
        host, port = args.connect
        print(f"{args.clients} games connect to {host}:{port}; Ctrl-C stops them", flush=True)
        while not games.wait(0.2) and not stop.is_set() and not games.failures:
            done += games.episodes()
            if time.monotonic() - reported >= REPORT_S:
                reported = time.monotonic()
                print(summary(done[-20:], "the last "), flush=True)
    done += games.episodes()
    print(f"{summary(done)}, {time.monotonic() - start:.1f} s", flush=True)
    if games.failures:
        # One server refuses all games for one reason: once is enough.
        print(f"understudy play: {games.failures[0].message}", file=sys.stderr)
        return 1
    return 0


def _play_policy(args: argparse.Namespace) -> int:
    """The same without a server: an exported policy plays here."""
    from server.play_policy import play
    from server.policy_file import PolicyError

    start = time.monotonic()
    try:
        with _stop_on_signals() as stop:
            done = play(args, stop.is_set)
    except PolicyError as error:
        print(f"understudy play: {error}", file=sys.stderr)
        return 1
    print(f"{summary(done)}, {time.monotonic() - start:.1f} s", flush=True)
    return 0


def summary(episodes: Sequence[Episode], prefix: str = "") -> str:
    """One line about some episodes; +- is the standard error of the mean."""
    if not episodes:
        return "no complete episode"
    returns = [episode.return_ for episode in episodes]
    frames = sum(episode.length for episode in episodes)
    expert = sum(episode.expert for episode in episodes) / max(frames, 1)
    spread = ""
    if len(returns) > 1:
        spread = f" +- {statistics.stdev(returns) / math.sqrt(len(returns)):.1f}"
    return (
        f"{prefix}{len(returns)} episodes: {frames} frames, {expert:.1%} expert, "
        f"mean return {statistics.fmean(returns):.1f}{spread}"
    )


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


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)
