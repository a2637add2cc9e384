"""What the demos share: a server that is played with from start to finish, and its summary."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from config.load import load
from config.options import given
from server.run.summary import summarize
from server.supervisor.child import ChildDied
from server.supervisor.processes import Processes, ProcessesOf
from server.supervisor.session import running
from server.supervisor.supervisor import Supervisor
from server.terminal import terminal
from server.web.server import any_http_port


def conduct(
    args: argparse.Namespace,
    command: str,
    label: str,
    game: str | None,
    play: Callable[[Supervisor, Console], dict[str, Any]],
    show: Callable[[Console, dict[str, Any]], None],
    *trouble: type[Exception],
    make: ProcessesOf = Processes,
) -> int:
    """Start a server, have it played with, stop it, and write and show the summary; the exit code.

    label: of the run's folder. game: its name, so that no other one can claim the run. play:
    answers what the summary says beyond the metrics; one of `trouble` ends it with a message. show:
    prints the summary for people. make: as of running.
    """
    asked = given(args)
    if game is not None and "run.game" not in asked.settings.values:
        settings = asked.settings.with_value("run.game", game, f"of {command}")
        asked = replace(asked, settings=settings)
    loaded = load(asked)
    console = terminal(stderr=args.json, quiet=args.json)
    known: tuple[type[Exception], ...] = (ChildDied, *trouble)
    any_port = any_http_port(loaded)
    with running(
        loaded.config, label=label, http=True, any_http_port=any_port, make=make
    ) as supervisor:
        supervisor.publisher.update(preset=asked.preset)
        if supervisor.dashboard is not None:
            console.print(f"dashboard: {supervisor.dashboard}")
        try:
            supervisor.found |= play(supervisor, console)
        except known as error:
            if not isinstance(error, ChildDied):  # its log is worth keeping
                supervisor.run_start.refuse()
            print(f"understudy {command}: {error}", file=sys.stderr)
            return 1
    # After the stop, so that the counters are the final ones.
    summary = summarize(supervisor.folder, supervisor.row, supervisor.last, **supervisor.found)
    if args.json:
        print(json.dumps(summary, indent=2))
    else:
        show(console, summary)
    return 0


def reached(student: float, teacher: float) -> list[tuple[str, str]]:
    """A row that says how much of its teacher's mean return the student has. None where one of them
    is not positive: a share of that means nothing."""
    if student <= 0 or teacher <= 0:
        return []
    return [("the student reaches", f"{student / teacher:.0%} of its teacher")]


def attributed(summary: dict[str, Any]) -> tuple[str, str]:
    """A row that says what the comparison of the games' logs with the replay found."""
    compared, wrong = summary["attribution_compared"], summary["attribution_mismatches"]
    found = "all right" if not wrong else f"{wrong:,} WRONG"
    return "who played each step, as the games logged it", f"{compared:,} compared, {found}"


def print_next(console: Console, run: str) -> None:
    """Where the run is, and what can be done with it."""
    beside = Path(sys.executable).with_name("understudy")
    program = "understudy"
    if shutil.which(program) is None and beside.exists():  # a checkout's, not on the PATH
        program = os.path.relpath(beside)
    inspect, serve = f"{program} inspect {run}", f"{program} serve --resume {run}"
    lines = (
        f"\nrun: {run}\nnext:",
        f"  {inspect:<{len(serve)}}  # what it holds",
        f"  {serve}  # go on with it",
        "  docs/start.md: connect a game of your own",
    )
    console.print("\n".join(lines), soft_wrap=True, highlight=False)
