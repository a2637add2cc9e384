"""`understudy conformance`: does a server, or a client, keep to protocol/SPEC.md?

`--connect` plays a client's part against a server, a connection for each case. `--listen` plays the
server's part for a client that connects, comes back, and plays on. Both print what was found, rule
by rule, each under its heading of the specification.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial

from server.arguments import parse_address, positive, seconds
from server.conformance.cases import CASES, Case, Player
from server.conformance.listen import Listener
from server.conformance.report import (
    BROKEN,
    KEPT,
    UNSEEN,
    Broken,
    Finding,
    NotExercised,
    as_json,
    as_table,
    passed,
)
from server.conformance.violations import play_misdeed, violations
from server.play.client_options import add_reaching, token_of
from understudy_client import ClientError, tls

LISTEN = ("127.0.0.1", 7777)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `understudy conformance`."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--connect",
        type=parse_address,
        metavar="HOST:PORT",
        help="check the server there, one that trains on no other game: the cases are played as "
        "a game of their own, and stored",
    )
    what.add_argument(
        "--listen",
        type=_here,
        nargs="?",
        const=LISTEN,
        metavar="[HOST:]PORT",
        help="check the client that connects there (127.0.0.1:7777; port 0 takes a free one)",
    )
    add = parser.add_argument
    add_reaching(parser)
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
        help="how long to wait for each message, and for a client to come (%(default)g s)",
    )
    add(
        "--wait",
        type=seconds,
        default=15.0,
        metavar="S",
        help="how long to wait for a server's deadline for HELLO; 0 leaves it out "
        "(--connect; %(default)g s)",
    )
    add("--json", action="store_true", help="print the result as JSON")


def main(args: argparse.Namespace) -> int:
    """Check and print. The exit code: 0, 1 where a rule is broken or nothing was exercised, 2
    where there is nothing to check."""
    try:
        token, context = token_of(args), tls.context(args.tls, args.ca)
        if args.listen is not None and (token is not None or context is not None):
            raise ValueError("--token and --tls are for --connect; it listens without them")
    except ValueError as problem:
        print(f"understudy conformance: {problem}", file=sys.stderr)
        return 2
    if args.connect is not None:
        player = Player(args.connect, args.timeout, token, context, args.wait)
        subject = f"the server at {args.connect[0]}:{args.connect[1]}"
        try:
            first_welcome(player)
        except (Broken, ClientError, OSError) as problem:
            print(f"understudy conformance: {subject}: {problem}", file=sys.stderr)
            return 2
        findings = check_server(player)
    else:
        try:
            listener = Listener(args.listen, frames=args.frames, timeout_s=args.timeout, show=_say)
        except OSError as problem:
            print(f"understudy conformance: cannot listen: {problem}", file=sys.stderr)
            return 2
        _say(f"listens on {args.listen[0]}:{listener.port}")
        subject = "the client"
        findings = listener.run()
        if not listener.connections:
            _say(
                f"nobody connected to port {listener.port} (it waits {args.timeout:g} s; --timeout "
                "for longer): nothing was checked"
            )
            if not args.json:
                return 1
    print(as_json(subject, findings) if args.json else as_table(subject, findings))
    return 0 if passed(findings) else 1


def _say(text: str) -> None:
    """Progress goes beside the result."""
    print(text, file=sys.stderr, flush=True)


def _here(text: str) -> tuple[str, int]:
    """Where to listen: a port alone is one of this machine's own address."""
    return parse_address(f"{LISTEN[0]}:{text}" if text.isdecimal() else text)


FIRST_WELCOME_S = 120.0
"""A server that has just started loads its network before it lets the first game in."""


def first_welcome(player: Player) -> None:
    """See that the server lets this game in at all. Errors: Broken, OSError."""
    with player.connect() as wire:
        wire.wait_for(max(player.timeout_s, FIRST_WELCOME_S))
        wire.send(1, player.fields())
        try:
            value = wire.next(None, "WELCOME")
        except Broken as problem:
            hint = "" if player.tls else "; where it has a certificate, give --tls or --ca"
            raise Broken(f"{problem}{hint}") from None
        if value[0] == 15 and value[1] == "spec_mismatch":
            raise Broken(
                "expected a server that trains on no game yet, or on this one; start one with a "
                f"run of its own. It says: {value[2]}"
            )
        if value[0] == 15 and value[1] in ("bad_token", "too_many_attempts"):
            raise Broken(f"give its token with --token. It says: {value[2]}")
        wire.send(5)


def check_server(player: Player) -> list[Finding]:
    """Play every case and every misdeed against a server that has let this game in."""
    if player.patience_s > 0:
        player.silent, player.silent_since = player.connect(), time.monotonic()
    findings = []
    last = [case for case in CASES if case.name == "deadline"]
    for case in CASES:
        if case not in last:
            findings.append(_try(case, player))
    for violation in violations(player):
        # What is refused is named by its code, as the specification's table does it.
        check = partial(play_misdeed, violation)
        case = Case(violation.code, "Errors", f"refused: {violation.name}", check)
        findings.append(_try(case, player))
    # Whatever was done wrong: who keeps the rules plays on.
    after = Case(
        "afterwards", "Errors", "another client plays on as if nothing had been", CASES[0].check
    )
    findings.append(_try(after, player))
    findings += [_try(case, player) for case in last]
    if player.silent is not None:
        player.silent.close()
    return findings


def _try(case: Case, player: Player) -> Finding:
    try:
        case.check(player)
    except NotExercised as reason:
        return Finding(case.name, case.section, case.rule, UNSEEN, str(reason))
    except Broken as problem:
        return Finding(case.name, case.section, case.rule, BROKEN, str(problem))
    except (ClientError, OSError) as problem:
        text = f"expected a connection, got {problem}"
        return Finding(case.name, case.section, case.rule, BROKEN, text)
    return Finding(case.name, case.section, case.rule, KEPT)
