"""`understudy chaos`: games play while the server's processes are killed, stopped and started at
random; in the end every step that a game was answered for is accounted for.

The games are those of the audit: each recommends actions that nobody has seen before, and logs what
it was answered. What the run's folder holds in the end is compared with their logs, row by row. No
row may be wrong, doubled or unknown; none may be missing but at the end of a stream, where somebody
was killed; and no more of those than the server has said (docs/reliability.md).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from config.load import ConfigError
from lab import audit_player
from lab.chaos.accounting import ChaosResult, account
from lab.chaos.cluster import ClusterServer
from lab.chaos.server import ChaosServer
from lab.ray_nodes import ADDRESS, cannot, ray_nodes
from lab.serve_process import WAIT_S
from server.arguments import positive

PAUSE_S = 0.02
"""Of a game after each answer: what is played is to fit into the replay."""

STEPS_PER_S = 4000
"""More than the games of a second can be, at that pace."""

QUIET_S = (2.0, 10.0)
"""How long nothing happens after everybody plays again."""


SOON = {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"}
"""Nodes whose head is gone end so soon, and not after a minute."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--minutes", type=float, default=30.0, metavar="M", help="minutes of play (%(default)s)"
    )
    parser.add_argument(
        "--players",
        type=positive,
        default=4,
        metavar="N",
        help="number of processes that play (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the random numbers (%(default)s)"
    )
    parser.add_argument(
        "--cluster",
        metavar="own|auto|HOST:PORT",
        help="the server runs on a Ray cluster whose nodes are all of this machine, and nodes and "
        "links are lost too. own: two nodes in networks of their own, made for this (as root)",
    )
    parser.add_argument(
        "--events",
        type=lambda text: text.split(","),
        metavar="E,E",
        help="what is to happen first, as it is printed; more is drawn at random",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def main(args: argparse.Namespace) -> int:
    if args.cluster == "own":
        return on_own_nodes(sys.argv[1:])
    show = None if args.json else lambda text: print(text, flush=True)
    result = chaos(
        60 * args.minutes, players=args.players, seed=args.seed, show=show, events=args.events,
        cluster=args.cluster,
    )  # fmt: skip
    report = result.report()
    if args.json:
        print(json.dumps(report | {"by_event": result.events}))
    else:
        print("  ".join(f"{name} {value}" for name, value in report.items()))
        if not result.events:
            print("nothing was killed, so nothing is proven; raise --minutes")
        else:
            print("every step is accounted for" if result.ok else "STEPS ARE WRONG OR LOST")
    return 0 if result.ok else 1


def on_own_nodes(words: list[str]) -> int:
    """The same command, on Ray nodes that live as long as it does. Errors: ConfigError."""
    if why := cannot():
        raise ConfigError(f"--cluster own: {why}")
    at = words.index("--cluster=own") if "--cluster=own" in words else words.index("own") - 1
    words = [*words[:at], "--cluster", ADDRESS, *words[at + ("own" in words) + 1 :]]
    with ray_nodes(SOON) as nodes:
        return nodes.popen(sys.executable, "-m", "server", *words).wait()


def chaos(
    seconds: float,
    *,
    players: int = 4,
    seed: int = 0,
    events: list[str] | None = None,
    quiet_s: tuple[float, float] = QUIET_S,
    show: Callable[[str], None] | None = None,
    cluster: str | None = None,
) -> ChaosResult:
    """Play for so long, and until each of `events` has happened, those first. `quiet_s`: between
    two of them. `cluster`: the address of that which the server is to run on. Errors:
    ConfigError."""
    rng, begin = random.Random(seed), time.monotonic()
    planned, happened = list(events or ()), Counter[str]()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        home, stop = Path(name), context.Event()
        games: list[BaseProcess] = [
            context.Process(
                target=audit_player.play,
                args=(i, seed, home, stop),
                kwargs={"steadfast": True, "pause_s": PAUSE_S},
                daemon=True,
            )
            for i in range(players)
        ]
        try:
            capacity = int(seconds * STEPS_PER_S) + 200_000
            at = (home, capacity, seed)
            with ChaosServer(*at) if cluster is None else ClusterServer(*at, cluster) as server:
                server.until_it_listens()
                for game in games:
                    game.start()
                while True:
                    server.until_it_plays()
                    time.sleep(rng.uniform(*quiet_s))
                    if not planned and time.monotonic() - begin >= seconds:
                        break
                    what = planned.pop(0) if planned else server.drawn(rng)
                    happened[what] += 1
                    if show:
                        show(f"{time.monotonic() - begin:6.0f} s  {what}")
                    server.inject(what, rng)
                stop.set()
                for game in games:
                    game.join(WAIT_S)
                server.end()
        finally:
            stop.set()
            for game in games:
                if game.is_alive():
                    game.terminate()
        said, restarts = server.reported()
        return account(
            home, server.run, seconds=time.monotonic() - begin, events=dict(happened), said=said,
            restarts=restarts,
        )  # fmt: skip
