"""`understudy set`: change settings of a run while it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from config.changes import Change, can_be_changed, parse
from server.control_socket import ask


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Change settings of a run while it runs: all that are given, or none. The run keeps them, "
        "and goes on with them when it is resumed. What can be changed: "
        f"{', '.join(can_be_changed())}."
    )
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run's folder")
    parser.add_argument(
        "values",
        nargs="+",
        metavar="KEY=VALUE",
        help="such as learner.n_step=5; a schedule's name sets its start and its end, so that the "
        "value holds from now on: expert.ratio=0.2",
    )


def main(args: argparse.Namespace) -> int:
    """Ask the run's server. Returns the exit code: 0, 1 where there is no server to ask, 2 for what
    it refuses."""
    values = parse(args.values)
    try:
        answer = ask(args.run, {"set": values})
    except OSError as error:
        print(f"understudy set: {error}", file=sys.stderr)
        return 1
    if "error" in answer:
        # It has been put into words there, for a person.
        print(f"understudy set: {answer['error']}", file=sys.stderr)
        return 2
    changes = [Change(each["key"], each["from"], each["to"]) for each in answer["changes"]]
    for change in changes:
        print(change)
    if not changes:
        print("nothing to change: all of these have their values already")
    return 0
