"""`understudy bench`: how fast this machine starts, serves, remembers and learns, as JSON lines.

Absolute figures say more about the machine than about the code. The targets are ratios to a
calibration that is measured in the same run; docs/benchmarks.md says which, and keeps the history.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from config.load import ConfigError
from lab.bench import cluster as bench_cluster
from lab.bench import fairness, rllink, sb3
from lab.bench import learner as bench_learner
from lab.bench import replay as bench_replay
from lab.bench import serving as bench_serving
from lab.bench import start as bench_start
from lab.bench.serving import Shape

CASES = (
    "start", "replay", "learner", "serving", "tempest", "fairness", "update", "game", "cluster",
)  # fmt: skip
ALIASES = {"crowd": "fairness"}
"""Earlier names of cases."""
COMPARED = ("update", "game")
"""Those that need Stable-Baselines3. Without it they are left out, unless they are asked for."""
ASKED = ("cluster",)
"""Those that are measured only when they are asked for."""

HISTORY = Path("docs/benchmarks.md")

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "cases", nargs="*", choices=[*CASES, *ALIASES, []], metavar="CASE",
        help=f"cases to measure: {', '.join(CASES)} (all but {', '.join(ASKED)})",
    )  # fmt: skip
    add(
        "--clients", type=int, nargs="*", metavar="N",
        help="number of games at a time, with observations of 195 numbers (32)",
    )  # fmt: skip
    add(
        "--shapes", nargs="*", default=list(bench_serving.SHAPES), metavar="SHAPE",
        help="of the case serving, without --clients: games x numbers, or games x slots x numbers "
        f"({' '.join(bench_serving.SHAPES)})",
    )  # fmt: skip
    add("--seconds", type=float, default=4.0, help="length of each measurement (%(default)s)")
    add(
        "--rounds",
        type=int,
        default=3,
        help="number of rounds; the figures are their medians (%(default)s)",
    )
    add("--device", default="cpu", help="device of trainer, learner and replay (%(default)s)")
    add(
        "--gateway-device",
        default="cpu",
        help="device of the gateway's forward passes (%(default)s)",
    )
    add("--frames", type=int, default=20_000, help="frames of each round of the game (%(default)s)")
    add(
        "--rllib",
        metavar="PYTHON",
        help="cluster: also measure RLlib's external environments (RLlink), with this Python, "
        "which has ray[rllib]; docs/benchmarks.md says how to make one",
    )
    add("--record", action="store_true", help=f"add the rows to the history in {HISTORY}")
    add(
        "--rows", type=Path, metavar="FILE",
        help="take the rows of this file, which scripts/check-gpu has written, and measure nothing",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    if args.rows is not None:
        found = read(args.rows)
        for row in found["rows"]:
            print(json.dumps(row), flush=True)
        if args.record:
            record(found["rows"], HISTORY, found["revision"])
        return 0
    rows = []
    for row in run(args, lambda text: print(text, file=sys.stderr, flush=True)):
        print(json.dumps(row), flush=True)
        rows.append(row)
    if args.record:
        record(rows, HISTORY)
    return 0 if all(row.get("ok", True) for row in rows) else 1


def run(args: argparse.Namespace, show: Callable[[str], None]) -> Iterator[Row]:
    """All rows that were asked for, as they are measured."""
    asked = args.cases or [case for case in CASES if case not in ASKED]
    cases = [ALIASES.get(case, case) for case in asked]
    if (problem := sb3.missing()) and any(case in cases for case in COMPARED):
        if args.cases:
            raise ConfigError(problem)
        show(problem)
        cases = [case for case in cases if case not in COMPARED]
    if "cluster" in cases and (problem := bench_cluster.missing()):
        raise ConfigError(problem)
    yield {"case": "machine", **machine(args.device)}
    if "start" in cases:  # first: the other cases leave a heap of memory behind
        yield from bench_start.measure(show, args.rounds)
    calibration: Row = {}
    if "replay" in cases:
        show("replay")
        for row in bench_replay.measure(device=args.device):
            calibration.setdefault("gather_ms", row["gather_ms"])
            yield row
    if "learner" in cases:
        show("learner")
        for row in bench_learner.measure(device=args.device):
            calibration.setdefault("matmul_gflops", row["matmul_gflops"])
            yield row
    config = {
        "trainer.device": args.device,
        "replay.device": args.device,
        "server.device": args.gateway_device,
    }
    for case in ("serving", "tempest"):
        if case not in cases:
            continue
        hidden = [512, 512, 256]
        parameters = {"hidden": hidden, "batch_size": 768, "device": args.device}
        shapes = [Shape(clients, 195) for clients in args.clients or [32]]
        if case == "serving" and args.clients is None:
            shapes = [Shape.of(text) for text in args.shapes]
        for shape in shapes:
            found = bench_serving.measure(
                shape, 44, hidden, seconds=args.seconds, rounds=args.rounds, config=config,
                show=show, tempest=case == "tempest",
            )  # fmt: skip
            headline, *rest = found.rows(parameters)
            yield headline | calibration
            yield from rest
    if "fairness" in cases:
        yield fairness.measure(config=config, show=show)
    if "update" in cases:
        show("update, beside that of Stable-Baselines3")
        yield from sb3.measure_updates(args.rounds)
    if "game" in cases:
        yield from sb3.measure_game(args.frames, args.rounds, show)
    if "cluster" in cases:
        yield from bench_cluster.measure(show, seconds=args.seconds, rounds=args.rounds)
        if args.rllib:
            yield from rllink.measure(args.rllib, show, seconds=round(args.seconds))


def machine(device: str) -> Row:
    """What this was measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    row: Row = {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.device(device).type == "cuda":
        row["gpu"] = torch.cuda.get_device_name(device)
    return row


def read(path: Path) -> dict[str, Any]:
    """What scripts/check-gpu has written. Errors: ConfigError, OSError."""
    try:
        found = json.loads(path.read_text())
        if all(isinstance(row, dict) for row in found["rows"]) and isinstance(
            found["revision"], str
        ):
            return dict(found)
    except (ValueError, KeyError, TypeError):
        pass
    raise ConfigError(f"{path}: expected a file of scripts/check-gpu; write one with it")


def revision() -> str:
    """Of the project, as git says it; empty without git."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        ).stdout.strip()
    except OSError:
        return ""


def record(rows: list[Row], history: Path, measured_at: str | None = None) -> None:
    """Add the rows under a heading with date and revision, where they were not measured now that
    of then."""
    if not history.exists():
        raise FileNotFoundError(f"{history}: run this in the project's folder")
    at = revision() if measured_at is None else measured_at
    lines = [f"\n### {datetime.now(UTC):%Y-%m-%d} at {at or 'no revision'}\n", "```json"]
    lines += [json.dumps(row) for row in rows]
    with history.open("a") as file:
        file.write("\n".join([*lines, "```", ""]))
