"""`understudy runs`: the runs in a folder: game, frames, best evaluation, size and state."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from pathlib import Path

from rich.table import Table

from config.load import ConfigError
from server.run.directory import RUNS
from server.run.overview import Overview, overview, runs_in, size_text
from server.terminal import terminal

NOTHING = "–"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, nargs="*", default=[RUNS], metavar="FOLDER",
        help=f"a folder with runs in it, or a run (default: {RUNS})",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON array")
    parser.description = (
        "List runs, those with the newest numbers first. States: running (a server has it), "
        "stopped, killed (its last server did not stop it), empty (no game has come)."
    )


def main(args: argparse.Namespace) -> int:
    found = [overview(path) for folder in args.folder for path in _runs(folder)]
    found.sort(key=lambda run: run.time or 0.0, reverse=True)
    if args.json:
        print(json.dumps([run.plain() for run in found], indent=2))
        return 0
    if not found:
        print(f"no runs in {', '.join(map(str, args.folder))}; `understudy serve` begins one")
        return 0
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("run", "game"):
        table.add_column(heading, overflow="fold")
    for heading in ("frames", "best evaluation", "expert", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("state", "newest numbers"):
        table.add_column(heading, no_wrap=True)
    for run in found:
        table.add_row(*_cells(run))
    console = terminal(wide=True)
    console.print(table, highlight=False)
    for run in found:
        if run.init_from:
            console.print(
                f"{run.name} began with the weights of {run.init_from}",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
        if run.problem:
            console.print(f"{run.name}: {run.problem}", highlight=False, soft_wrap=True)
    return 0


def _runs(folder: Path) -> list[Path]:
    try:
        return runs_in(folder)
    except OSError as error:
        raise ConfigError(
            f"expected a folder with runs in it, got {folder}: {error.strerror}; name another one"
        ) from None


def _cells(run: Overview) -> tuple[str, ...]:
    best = NOTHING if run.best is None else f"{run.best:.4g} at {run.best_frames:,}"
    return (
        run.name,
        run.game or NOTHING,
        NOTHING if run.frames is None else f"{run.frames:,}",
        best,
        NOTHING if run.expert is None else f"{run.expert:.4g}",
        size_text(run.disk_bytes),
        run.state,
        NOTHING if run.time is None else f"{datetime.fromtimestamp(run.time):%Y-%m-%d %H:%M}",
    )
