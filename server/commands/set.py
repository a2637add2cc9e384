"""`understudy set`: change settings of a run while it runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from config.changes import live_names, parse
from server.commands.ask_server import ask_and_print


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Change settings of a running server, all or none. A resumed run keeps them. Settings that "
        "can be changed: "
        f"{', '.join(live_names())}."
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
    """Ask the run's server; the exit code, as of `understudy control`."""
    return ask_and_print("set", args.run, {"set": parse(args.values)})
