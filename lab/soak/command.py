"""`understudy soak`: is a server the same after a long time under full load?

A server of its own (`understudy serve`), with a trainer that computes all the time, a replay that
is overwritten again and again, checkpoints that are written and pruned, HTTP that is asked as
Prometheus and a dashboard ask, games that stay and visitors who come and go. Each second it is
looked at from outside: frame rate, answer times, memory and file descriptors of each process, the
disk. The first quarter begins when the replay is full and checkpoints have been pruned; until then
memory grows as it should.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lab.load.clients import bench_spec
from lab.load.process import LoadProcess
from lab.soak import load as soak_load
from lab.soak.judge import Quarter, judge, together
from lab.soak.server import SoakFailed, SoakServer
from lab.soak.watch import KEEP, Watch
from server.arguments import positive

OBSERVATIONS, ACTIONS = 195, 44
"""Of the game: as the bench has it."""

SETTINGS: dict[str, Any] = {
    "server.port": 0,
    "run.game": "bench",
    "server.http_port": 0,
    # Soon full; a file of rows then goes, and another comes, every few seconds.
    "replay.capacity_steps": 200_000,
    # As many updates as the trainer can make.
    "trainer.replay_ratio": 1e6,
    "trainer.device": "cpu",
    "checkpoint.every_s": 10,
    "checkpoint.keep": KEEP,
    # Who was started again has not lasted.
    "supervision.max_restarts": 0,
}
"""Over the preset bench."""

STAY_S = 1.0
"""Of a visitor, on average."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Put a server of its own under full load for a long time: games that play as fast as they "
        "are answered, connections that come and go, constant training, a replay on disk, "
        "checkpoints, HTTP. Prints a JSON line for each quarter of the time, and one that compares "
        "the last quarter with the first: frame rate, 99th percentile of the answer times, memory, "
        "file descriptors, disk. Exit code 1 if they differ too much."
    )
    parser.add_argument(
        "--minutes", type=float, default=20.0, metavar="M",
        help="minutes that are judged, after the warm-up (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--clients", type=positive, default=32, metavar="N",
        help="number of games that stay (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--visitors", type=positive, default=4, metavar="N",
        help="number of connections at a time that come and go (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the random numbers (default %(default)s)",
    )
    parser.add_argument(
        "--no-pace", action="store_true",
        help="do not judge frame rate and answer times; use it on a busy machine",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    ok = False
    for row in soak(
        60 * args.minutes,
        clients=args.clients,
        visitors=args.visitors,
        seed=args.seed,
        pace=not args.no_pace,
    ):
        print(json.dumps(row), flush=True)
        ok = row.get("ok", False)
    return 0 if ok else 1


def soak(
    seconds: float,
    *,
    clients: int = 32,
    visitors: int = 4,
    seed: int = 0,
    pace: bool = True,
    warm_up_s: float = 30.0,
    every_s: float = 1.0,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows to print: one for the warm-up, which takes at least so long, one for each quarter, and
    the verdict. `every_s`: between two looks. `settings`: over `SETTINGS`."""
    values = SETTINGS | {"run.seed": seed} | dict(settings or {})
    base: dict[str, Any] = {"case": "soak"}
    quarters: list[Quarter] = []
    broken: list[str] = []
    try:
        with tempfile.TemporaryDirectory() as home, SoakServer(Path(home), values) as server:
            with _load(server.port, clients, visitors, every_s, seed) as load:
                watch = Watch(server, load)
                warm = watch.warm_up(values, warm_up_s)
                yield base | {"warm_up": True} | warm.row()
                for number in range(1, 5):
                    quarters.append(together(watch.samples(seconds / 4)))
                    yield base | {"quarter": number} | quarters[-1].row()
            broken += server.end()
    except SoakFailed as error:
        broken.append(str(error))
    if len(quarters) == 4:
        broken = judge(quarters[0], quarters[-1], pace=pace) + broken
    yield base | {
        "minutes": seconds / 60,
        "clients": clients,
        "visitors": visitors,
        "seed": seed,
        "pace_judged": pace,
        **(_compared(quarters[0], quarters[-1]) if len(quarters) == 4 else {}),
        "broken": broken,
        "ok": not broken,
    }


def _compared(first: Quarter, last: Quarter) -> dict[str, Any]:
    """The last quarter beside the first, in numbers."""
    return {
        "frames_per_s_ratio": round(last.frames_per_s / first.frames_per_s, 3),
        "p99_ratio": round(last.p99_ms / first.p99_ms, 3),
        "memory_more": {k: last.memory.get(k, 0) - v for k, v in first.memory.items()},
        "files_more": {k: last.files.get(k, 0) - v for k, v in first.files.items()},
        "disk_more": last.disk - first.disk,
        "written_per_day": last.written_per_day,
    }


def _load(port: int, clients: int, visitors: int, every_s: float, seed: int) -> LoadProcess:
    """The clients' process, which sends a `Second` each `every_s`."""
    spec = bench_spec(OBSERVATIONS, ACTIONS)
    return LoadProcess(
        soak_load.play, ("127.0.0.1", port), spec, clients, visitors, STAY_S, every_s, seed
    )
