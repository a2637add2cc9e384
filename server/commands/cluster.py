"""`understudy cluster`: the nodes of a Ray cluster, what servers run there, whether a second
learner pays, and a gateway node drained."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from config.load import ConfigError, config_of_run
from server.commands.ask_server import answer_of
from server.run.directory import game_of
from server.terminal import terminal

AGAIN_S = 0.5
"""Between two questions how far a drain is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "With status, show the nodes of a Ray cluster, and the gateway nodes and learners that "
        "servers have there: where each is, its rows that are not acknowledged, and the version of "
        "its weights. With measure, say whether a second learner pays, for the network of a run, "
        "on the nodes where learners would be: an update of one, beside one that they share. With "
        "drain, send the games of a gateway node away, wait until its rows are kept, and end it; "
        "the server goes on with its other nodes."
    )
    parser.add_argument("what", choices=["status", "measure", "drain"], help="what to do")
    parser.add_argument(
        "node", nargs="?", help="drain: which gateway node, by its number or by its host"
    )
    parser.add_argument(
        "--run",
        type=Path,
        metavar="FOLDER",
        help="measure: a run that a game has played in; its settings and its game are what is "
        "measured. drain: the run whose server has the node",
    )
    parser.add_argument(
        "--learners", type=int, default=2, metavar="N", help="measure: how many (%(default)s)"
    )
    parser.add_argument(
        "--cluster",
        default="auto",
        metavar="auto|HOST:PORT",
        help="the cluster: that of this machine, or the one whose head is there (%(default)s)",
    )
    parser.add_argument(
        "--cluster.insecure",
        dest="insecure",
        action="store_true",
        help="measure: on several machines whose Ray asks for no token",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace) -> int:
    if args.what == "drain":
        return _drain(args)
    found = _measured(args) if args.what == "measure" else _status(args)
    if args.json:
        print(json.dumps(found))
        return 0
    console = terminal()
    if args.what == "measure":
        console.print(found["sentence"], soft_wrap=True)
        if len(set(found["hosts"])) < len(found["hosts"]):
            console.print(
                "Learners shared a machine here, and its processors: measure with nodes on "
                "machines of their own.", soft_wrap=True,
            )  # fmt: skip
        return 0
    for title, rows in (("nodes", found["nodes"]), ("actors", found["actors"])):
        console.print(_table(title, rows) if rows else f"no {title}")
    return 0


def _status(args: argparse.Namespace) -> dict[str, Any]:
    from server.cluster.start import cluster_status

    return cluster_status(args.cluster)


def _drain(args: argparse.Namespace) -> int:
    """Ask the run's server again and again until it is done; the exit code."""
    if args.node is None or args.run is None:
        raise ConfigError("drain: expected a gateway node, and --run FOLDER, its server's run")
    told = ""
    while True:
        answer, code = answer_of("cluster", args.run, {"drain": args.node})
        if code:
            return code
        if args.json:
            print(json.dumps(answer), flush=True)
        elif answer["text"].partition(" (")[0] != told:
            print(answer["text"], flush=True)
            told = answer["text"].partition(" (")[0]
        if answer["done"]:
            return 0
        time.sleep(AGAIN_S)


def _measured(args: argparse.Namespace) -> dict[str, Any]:
    """Errors: ConfigError."""
    from server.cluster.start import measure_learners

    if args.run is None:
        raise ConfigError("measure: expected --run FOLDER, of a run that a game has played in")
    if args.learners < 2:
        raise ConfigError(f"--learners: expected at least 2, got {args.learners}")
    config, spec = config_of_run(args.run), game_of(args.run)
    if spec is None:
        raise ConfigError(f"{args.run} has no game yet; play one frame on it, or name another run")
    told = {"learners": args.learners, "insecure": args.insecure}
    several = config.cluster.model_copy(update=told)
    return measure_learners(args.cluster, config.model_copy(update={"cluster": several}), spec)


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(_cell(row.get(name, "")) for name in columns))
    return table


def _cell(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
