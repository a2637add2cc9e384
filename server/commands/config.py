"""`understudy config show`: the effective configuration and where each value is from."""

from __future__ import annotations

import argparse

from config import show
from config.load import load
from config.options import add_arguments as add_config
from config.options import given
from server.terminal import terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument("what", nargs="?", choices=["show"], default="show")
    what.help = "print the effective values"
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print them as JSON")
    form.add_argument(
        "--toml", action="store_true", help="print them as a file that --config reads"
    )
    add_config(parser)
    parser.usage = "%(prog)s show [options]"


def main(args: argparse.Namespace) -> int:
    loaded = load(given(args))
    if args.json:
        print(show.to_json(loaded))
    elif args.toml:
        print(show.toml(loaded), end="")
    else:
        show.table(loaded, terminal(wide=True))
    return 0
