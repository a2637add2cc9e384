"""`understudy conformance`: does a server, or a client, keep to protocol/SPEC.md?

`--connect` plays the client against a server, on a connection for each case. `--listen` plays the
server for a client that connects, reconnects, and plays on. Both print a result for each rule,
under its heading in the specification.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec

from server.arguments import parse_address, positive, seconds
from server.conformance.connect import check_server, first_welcome
from server.conformance.listen import ClientCheck
from server.conformance.report import RuleBroken, as_json, as_table, passed
from server.conformance.server_under_test import ServerUnderTest
from server.play.client_options import add_connection_options, token_of
from understudy_client import ClientError, tls

LISTEN = ("127.0.0.1", 7777)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `understudy conformance`."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--connect",
        type=parse_address,
        metavar="HOST:PORT",
        help="check this server; it must not train on another game: the cases are a game of their "
        "own, whose steps it stores",
    )
    what.add_argument(
        "--listen",
        type=_here,
        nargs="?",
        const=LISTEN,
        metavar="[HOST:]PORT",
        help="check the client that connects here (127.0.0.1:7777; port 0 takes a free one)",
    )
    add = parser.add_argument
    add_connection_options(parser)
    add(
        "--websocket",
        action="store_true",
        help="over WebSockets, as browsers connect: --connect names server.websocket_port",
    )
    add(
        "--frames",
        type=positive,
        default=50,
        metavar="N",
        help="frames that a client plays in each act (--listen; %(default)s)",
    )
    add(
        "--timeout",
        type=seconds,
        default=30.0,
        metavar="S",
        help="how long to wait for each message, and for a client to connect (%(default)g s)",
    )
    add(
        "--wait",
        type=seconds,
        default=15.0,
        metavar="S",
        help="how long to wait for the server to end a connection without HELLO; 0 skips that case "
        "(--connect; %(default)g s)",
    )
    add("--json", action="store_true", help="print the result as JSON")


def main(args: argparse.Namespace) -> int:
    """Check and print. The exit code: 0, 1 where a rule is broken or nothing was exercised, 2
    where there is nothing to check."""
    if args.websocket and find_spec("websockets") is None:
        print(
            "understudy conformance: --websocket needs the package websockets, which is not "
            "installed; run scripts/install",
            file=sys.stderr,
        )
        return 2
    try:
        token, context = token_of(args), tls.context(args.tls, args.ca)
        if args.listen is not None and (token is not None or context is not None):
            raise ValueError("--token, --tls and --ca are for --connect only; leave them out")
    except ValueError as problem:
        print(f"understudy conformance: {problem}", file=sys.stderr)
        return 2
    if args.connect is not None:
        server = ServerUnderTest(
            args.connect, args.timeout, token, context, args.wait, websocket=args.websocket
        )
        subject = f"the server at {args.connect[0]}:{args.connect[1]}"
        try:
            first_welcome(server)
        except (RuleBroken, ClientError, OSError) as problem:
            print(f"understudy conformance: {subject}: {problem}", file=sys.stderr)
            return 2
        results = check_server(server)
    else:
        try:
            check = ClientCheck(
                args.listen,
                frames=args.frames,
                timeout_s=args.timeout,
                show=_say,
                websocket=args.websocket,
            )
        except OSError as problem:
            print(f"understudy conformance: cannot listen: {problem}", file=sys.stderr)
            return 2
        _say(f"listening on {args.listen[0]}:{check.port}")
        subject = "the client"
        results = check.run()
        if not check.connections:
            _say(
                f"nobody connected to port {check.port} within {args.timeout:g} s; nothing was "
                "checked. Start the client, or raise --timeout"
            )
            if not args.json:
                return 1
    print(as_json(subject, results) if args.json else as_table(subject, results))
    return 0 if passed(results) else 1


def _say(text: str) -> None:
    """Progress goes to stderr, the result to stdout."""
    print(text, file=sys.stderr, flush=True)


def _here(text: str) -> tuple[str, int]:
    """Where to listen; a port alone is one of 127.0.0.1."""
    return parse_address(f"{LISTEN[0]}:{text}" if text.isdecimal() else text)
