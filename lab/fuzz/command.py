"""`understudy fuzz`: hostile streams against the decoder, hostile connections against a server.

It prints a JSON line for each part. Exit code 1 if a promise of docs/reliability.md does not hold.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import multiprocessing
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from lab.fuzz.live import live
from lab.fuzz.mutator import KINDS, Mutator
from lab.fuzz.streams import BrokenPromise, check

_SPAWN = multiprocessing.get_context("spawn")

_AT_A_TIME = 2000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Send mutated and hostile streams to the decoder, in the protocol and in the older "
        "format of Tempest's clients, and hostile connections to a live server that answers "
        "games and trains meanwhile. Prints a JSON line for each part; exit code 1 if a promise "
        "does not hold."
    )
    parser.add_argument(
        "--streams", type=int, default=1_000_000, metavar="N",
        help="number of streams for the decoder, 0 for none (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--connections", type=int, default=10_000, metavar="N",
        help="number of hostile connections, 0 for none (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--engine", choices=("both", "seeded", "coverage"), default="both",
        help="how streams are made: seeded (messages changed at random), coverage (guided by the "
        "package atheris), or both, half each; without the package, both is seeded (default "
        "%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the random numbers (default %(default)s)",
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="number of processes (default %(default)s)"
    )
    parser.add_argument(
        "--at-once", type=int, default=32, metavar="N",
        help="number of hostile connections at a time (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S",
        help="how long the control of each round lasts: the games play beside a process that "
        "merely computes (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N",
        help="number of rounds, each a control and a share of the hostile connections (default "
        "%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--no-p99", action="store_true",
        help="do not judge the games' answer times; use it on a busy machine",
    )  # fmt: skip


def seeded(streams: int, seed: int, jobs: int) -> dict[str, Any]:
    """Streams from a seed, in processes; what to print of it."""
    begin, used = time.monotonic(), _processor_s()
    starts = range(0, streams, _AT_A_TIME)
    work = [(seed, start, min(_AT_A_TIME, streams - start)) for start in starts]
    ends: Counter[str] = Counter()
    broken: list[dict[str, Any]] = []
    if jobs == 1:
        parts = map(_some, work)
        for part in parts:
            ends += part[0]
            broken += part[1]
    else:
        with _SPAWN.Pool(jobs, initializer=gc.freeze) as pool:
            for part in pool.imap_unordered(_some, work):
                ends += part[0]
                broken += part[1]
            pool.close()
            pool.join()  # so that their processor time is known
    return {
        "case": "streams",
        "engine": "seeded",
        "seed": seed,
        "streams": sum(ends.values()) + len(broken),
        "seconds": round(time.monotonic() - begin, 1),
        "cpu_s": round(_processor_s() - used, 1),
        "ends": dict(ends.most_common()),
        "broken": broken[:10],
        "ok": not broken,
    }


def _some(work: tuple[int, int, int]) -> tuple[Counter[str], list[dict[str, Any]]]:
    seed, start, count = work
    mutator, ends, broken = Mutator(seed), Counter[str](), []
    for number in range(start, start + count):
        kind, data, rng = mutator.make(number)
        try:
            ends[check(kind, data, rng)] += 1
        except BrokenPromise as error:
            broken.append(
                {"number": number, "kind": KINDS[kind], "why": str(error), "hex": data[:4096].hex()}
            )
    return ends, broken


def has_atheris() -> bool:
    """Whether the package for fuzzing by coverage is there."""
    return importlib.util.find_spec("atheris") is not None


def coverage(streams: int, seed: int, jobs: int) -> dict[str, Any]:
    """Streams by coverage, in processes of libFuzzer's that share what they find; what to print of
    it."""
    begin, used = time.monotonic(), _processor_s()
    with tempfile.TemporaryDirectory() as folder:
        corpus, crashed = Path(folder) / "corpus", Path(folder) / "crashed"
        corpus.mkdir()
        crashed.mkdir()
        mutator = Mutator(seed)
        for number in range(200):
            kind, data, _ = mutator.make(number)
            (corpus / str(number)).write_bytes(bytes([kind, number]) + data)
        running = []
        for job in range(jobs):
            share = streams // jobs + (job < streams % jobs)
            command = [
                sys.executable, "-m", "lab.fuzz.coverage", str(corpus), f"-runs={share}",
                f"-seed={seed * jobs + job + 1}", "-max_len=4096", "-rss_limit_mb=2048",
                # By the clock, so for what hangs alone: `check` measures processor time.
                "-timeout=300", "-report_slow_units=300", f"-artifact_prefix={crashed}/",
            ]  # fmt: skip
            with (Path(folder) / f"said-{job}").open("wb") as output:
                running.append(subprocess.Popen(command, stdout=output, stderr=output))
        codes = [process.wait() for process in running]
        said = [(Path(folder) / f"said-{job}").read_text(errors="replace") for job in range(jobs)]
        crashes = [
            {"file": path.name, "hex": path.read_bytes()[:4096].hex()}
            for path in sorted(crashed.iterdir())
        ]
    runs = [int(count) for each in said for count in re.findall(r"Done (\d+) runs", each)]
    seen = [int(count) for each in said for count in re.findall(r"cov: (\d+)", each)]
    out: dict[str, Any] = {
        "case": "streams",
        "engine": "coverage",
        "seed": seed,
        "streams": sum(runs),
        "seconds": round(time.monotonic() - begin, 1),
        "cpu_s": round(_processor_s() - used, 1),
        "branches": max(seen, default=0),
        "broken": crashes,
        "ok": not any(codes) and not crashes and len(runs) == jobs,
    }
    if not out["ok"]:
        out["said"] = [each[-2000:] for each in said]
    return out


def _processor_s() -> float:
    """Processor time of this process and of those it has awaited: it tells a slow rig from a busy
    machine."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)


def main(args: argparse.Namespace) -> int:
    ok = True

    def say(row: dict[str, Any]) -> None:
        nonlocal ok
        ok = ok and row["ok"]
        print(json.dumps(row), flush=True)

    if args.streams:
        by_coverage = 0
        if args.engine == "coverage":
            by_coverage = args.streams
        elif args.engine == "both" and has_atheris():
            by_coverage = args.streams // 2
        if by_coverage:
            say(coverage(by_coverage, args.seed, args.jobs))
        if args.streams > by_coverage:
            say(seeded(args.streams - by_coverage, args.seed, args.jobs))
    if args.connections:
        for row in live(
            args.connections,
            seed=args.seed,
            at_once=args.at_once,
            seconds=args.seconds,
            rounds=args.rounds,
            judge_p99=not args.no_p99,
        ):
            say(row)
    return 0 if ok else 1
