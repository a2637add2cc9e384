"""`understudy compare`: runs side by side: their curves, and the settings in which they differ."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from config.load import ConfigError
from server.monitor.comparison import CURVES, EVALUATION, Point, check_curve, compare
from server.run.overview import size_text
from server.terminal import terminal

NOTHING = "–"
CELLS = 40
"""Letters of a curve."""
MARKS = 8
"""Rows of its numbers."""
BARS = "▁▂▃▄▅▆▇█"
TITLES = {EVALUATION: "evaluation: mean return of the network alone"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, nargs="+", metavar="RUN", help="the folder of a run")
    parser.add_argument(
        "--curve", type=_curve, action="append", metavar="NAME",
        help=f"{EVALUATION}, or a metric of docs/metrics.md; may be repeated (default: "
        f"{' and '.join(CURVES)})",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(args: argparse.Namespace) -> int:
    if len(args.run) < 2:
        raise ConfigError("expected two or more runs, got one; `understudy runs` lists some")
    found = compare(args.run, args.curve or CURVES)
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    console = terminal(wide=True)
    labels = [run["label"] for run in found["runs"]]
    _print(console, "", labels, _facts(found["runs"]))
    for name, curves in found["curves"].items():
        _print_curves(console, name, labels, curves)
    title, rows = "settings that differ", found["settings"].items()
    if rows:
        cells = [(key, *(value or "?" for value in values)) for key, values in rows]
        _print(console, title, labels, cells)
    else:
        console.print("\nno setting differs", highlight=False)
    for run in found["runs"]:
        if run["problem"]:
            console.print(f"{run['label']}: {run['problem']}", highlight=False, soft_wrap=True)
    return 0


def sketch(curve: Sequence[Point], frames: int, low: float, high: float) -> str:
    """A curve in CELLS letters from frame 0 to `frames`; a blank where it has no value yet, or none
    any more."""
    text = ""
    for cell in range(CELLS):
        value = _at(curve, (cell + 1) * frames / CELLS, frames / CELLS)
        height = 0.0 if high == low or value is None else (value - low) / (high - low)
        text += " " if value is None else BARS[round(height * (len(BARS) - 1))]
    return text


def _at(curve: Sequence[Point], frame: float, step: float) -> float | None:
    """The newest value at a frame; None before the first one, and a step beyond the last one."""
    if not curve or frame - step >= curve[-1][0]:
        return None
    return next((value for at, value in reversed(curve) if at <= frame), None)


def _print_curves(
    console: Console, name: str, labels: Sequence[str], curves: Sequence[Sequence[Point]]
) -> None:
    title = TITLES.get(name, name)
    values = [value for curve in curves for _, value in curve]
    if not values:
        console.print(f"\n{title}: no numbers yet", highlight=False)
        return
    low, high = min(values), max(values)
    frames = max(1, *(curve[-1][0] for curve in curves if curve))
    console.print(
        f"\n{title}, by frames up to {frames:,}, from {low:.4g} (▁) to {high:.4g} (█)",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    lines = Table(box=None, show_header=False, pad_edge=False)
    lines.add_column(overflow="fold")
    lines.add_column(no_wrap=True)
    for label, curve in zip(labels, curves, strict=True):
        lines.add_row(label, sketch(curve, frames, low, high))
    console.print(lines, highlight=False)
    step = frames / MARKS
    rows = []
    for mark in range(1, MARKS + 1):
        found = (_at(curve, mark * step, step) for curve in curves)
        cells = (NOTHING if value is None else f"{value:.4g}" for value in found)
        rows.append((f"frame {mark * step:,.0f}", *cells))
    _print(console, "", labels, rows)


def _facts(runs: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    def row(name: str, key: str, form: str) -> tuple[str, ...]:
        return (name, *(NOTHING if run[key] is None else format(run[key], form) for run in runs))

    began = [row("began with", "init_from", "")] if any(run["init_from"] for run in runs) else []
    return [
        row("game", "game", ""),
        *began,
        row("state", "state", ""),
        row("frames", "frames", ","),
        row("updates", "updates", ","),
        row("best evaluation", "best", ".4g"),
        row("  at frame", "best_frames", ","),
        row("expert", "expert", ".4g"),
        ("size", *(size_text(run["disk_bytes"]) for run in runs)),
    ]


def _print(
    console: Console, title: str, labels: Sequence[str], rows: Sequence[tuple[str, ...]]
) -> None:
    """A table with a column for each run."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(title, overflow="fold")
    for label in labels:
        table.add_column(label, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    if title:
        console.print()
    console.print(table, highlight=False)


def _curve(text: str) -> str:
    try:
        return check_curve(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
