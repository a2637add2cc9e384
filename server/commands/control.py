"""`understudy control`: pause and resume training, checkpoint or evaluate now, settings for games,
while a run runs. `understudy set` (server.commands.set) is the same for the run's settings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from config.changes import parse_games
from config.load import ConfigError
from server.control.mailbox import text_of
from server.control.unix_socket import ask

REQUESTS: dict[str, dict[str, Any]] = {
    "pause": {"pause": True},
    "resume": {"pause": False},
    "checkpoint": {"checkpoint": True},
    "evaluate": {"evaluate": True},
}
"""What is asked of the server; see server.control.controller."""

ANSWER_S = 120.0
"""How long to wait: a checkpoint may be on its way to a slow disk."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Do something to a run while it runs. pause: learn no more, while games play on; resume: "
        "learn again; checkpoint: write one now; evaluate: ask the games to evaluate now; games "
        "KEY=VALUE ...: settings for the games, told to those that play and to those that will. "
        "Each is kept in the run's changes.jsonl."
    )
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run's folder")
    parser.add_argument("what", choices=[*REQUESTS, "games"])
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
            raise ConfigError("games: expected KEY=VALUE behind it, got nothing")
        request: dict[str, Any] = {"games": parse_games(args.values)}
    elif args.values:
        raise ConfigError(f"{args.what}: expected nothing behind it, got {args.values[0]!r}")
    else:
        request = REQUESTS[args.what]
    return ask_and_print("control", args.run, request)


def ask_and_print(command: str, run: Path, request: dict[str, Any]) -> int:
    """Ask the server of this run, and print its answer; the exit code."""
    try:
        answer = ask(run, request, ANSWER_S)
    except OSError as error:
        print(f"understudy {command}: {error}", file=sys.stderr)
        return 1
    if "error" in answer:
        # It has been put into words there, for a person.
        print(f"understudy {command}: {answer['error']}", file=sys.stderr)
        return 2
    print(text_of(answer))
    return 0
