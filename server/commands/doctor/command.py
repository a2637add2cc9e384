"""`understudy doctor`: checks this machine, or a running server from the game's side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from config.load import load
from config.options import add_arguments as add_config
from config.options import given
from server.arguments import parse_address, seconds
from server.commands.doctor.connection import Target
from server.commands.doctor.report import StepResult, all_well, as_json, line
from server.commands.doctor.server import examine
from server.play.client_options import add_connection_options, token_of
from understudy_client import tls

TIMEOUT_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `understudy doctor`."""
    parser.description = (
        "Check whether this machine can run a server with these settings: Python, packages, "
        "device, cores, shared memory, open files, disk, addresses and ports. With --connect, "
        "check a running server from the game's side, step by step: name, port, TLS, token, "
        "hello, spec, one frame, latency; nothing is stored, learned from or counted as an "
        "evaluation. Exit code 1 if a step fails, 2 for wrong options."
    )
    add = parser.add_argument
    add(
        "--connect",
        type=parse_address,
        metavar="HOST:PORT",
        help="check the server at this address",
    )
    add_connection_options(parser)
    add(
        "--timeout",
        type=seconds,
        default=TIMEOUT_S,
        metavar="SECONDS",
        help="how long to wait for each answer (%(default)g)",
    )
    add("--json", action="store_true", help="print the result as JSON")
    add_config(parser)


def main(args: argparse.Namespace) -> int:
    """Print what was found; the exit code."""
    try:
        subject, results = _server(args) if args.connect is not None else _machine(args)
    except ValueError as error:
        print(f"understudy doctor: {error}", file=sys.stderr)
        return 2
    found = []
    for result in results:
        found.append(result)
        if not args.json:
            print(line(result), flush=True)
    if args.json:
        print(as_json(subject, found))
    else:
        print(f"{subject}: {'no problems found' if all_well(found) else 'problems found'}")
    return 0 if all_well(found) else 1


def _server(args: argparse.Namespace) -> tuple[str, Iterator[StepResult]]:
    """Errors: ValueError for wrong options."""
    token, context = token_of(args), tls.context(args.tls, args.ca)
    host, port = args.connect
    name = f"[{host}]" if ":" in host else host
    target = Target(host, port, token, context, args.timeout)
    return f"the server at {name}:{port}", examine(target)


def _machine(args: argparse.Namespace) -> tuple[str, Iterator[StepResult]]:
    """Errors: ValueError for wrong options; ConfigError."""
    for option in ("token", "token_file", "ca"):
        if getattr(args, option) is not None:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} needs --connect")
    if args.tls:
        raise ValueError("--tls needs --connect")
    # It may bring torch, which a game's machine need not have.
    from server.commands.doctor.machine import examine_machine

    asked = given(args)
    resumed: Path | None = args.config_resume
    return "this machine", examine_machine(load(asked), resumed)
