"""`understudy control`: pause and resume training, checkpoint or evaluate now, settings for games,
while a run runs. `understudy set` (server.commands.set) is the same for the run's settings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from config.changes import parse_games
from config.load import ConfigError
from server.commands.ask_server import ask_and_print

REQUESTS: dict[str, dict[str, Any]] = {
    "pause": {"pause": True},
    "resume": {"pause": False},
    "checkpoint": {"checkpoint": True},
    "evaluate": {"evaluate": True},
}
"""What is asked of the server; see server.control.controller."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Control a running server. pause: stop training while games play on; resume: train again; "
        "checkpoint: write one now; evaluate: ask the games to evaluate now; games KEY=VALUE ...: "
        "settings sent to the games that play, and to those that connect later. Each is recorded "
        "in the run's changes.jsonl."
    )
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("what", choices=[*REQUESTS, "games"], help="what the server is to do")
    parser.add_argument(
        "values",
        nargs="*",
        metavar="KEY=VALUE",
        help="with games: such as start_level=3; a value is TOML, or else text",
    )


def main(args: argparse.Namespace) -> int:
    """Ask the run's server. Returns the exit code: 0, 1 where there is no server to ask, 2 for what
    it refuses."""
    if args.what == "games":
        if not args.values:
            raise ConfigError("games: expected at least one KEY=VALUE, got none")
        request: dict[str, Any] = {"games": parse_games(args.values)}
    elif args.values:
        raise ConfigError(f"{args.what}: expected no KEY=VALUE, got {args.values[0]!r}")
    else:
        request = REQUESTS[args.what]
    return ask_and_print("control", args.run, request)
