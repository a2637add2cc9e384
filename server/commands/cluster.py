"""`understudy cluster status`: the nodes of a Ray cluster, and what servers run there."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.table import Table

from server.terminal import terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show the nodes of a Ray cluster, and the gateway nodes and learners that servers have "
        "there: where each is, its rows that are not acknowledged, and the version of its weights."
    )
    parser.add_argument("what", choices=["status"], help="what to do")
    parser.add_argument(
        "--cluster",
        default="auto",
        metavar="auto|HOST:PORT",
        help="the cluster: that of this machine, or the one whose head is there (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace) -> int:
    from server.cluster.start import cluster_status

    found = cluster_status(args.cluster)
    if args.json:
        print(json.dumps(found))
        return 0
    console = terminal()
    for title, rows in (("nodes", found["nodes"]), ("actors", found["actors"])):
        console.print(_table(title, rows) if rows else f"no {title}")
    return 0


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(_cell(row.get(name, "")) for name in columns))
    return table


def _cell(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
