"""`understudy conformance --connect`: every case and every violation, played against a server."""

from __future__ import annotations

import time
from functools import partial

from server.conformance.cases import CASES, Case
from server.conformance.report import BROKEN, KEPT, UNSEEN, NotExercised, RuleBroken, RuleResult
from server.conformance.server_under_test import ServerUnderTest
from server.conformance.violations import play_violation, violations
from understudy_client import ClientError

FIRST_WELCOME_S = 120.0
"""A server that has just started loads its network before it lets the first game in."""


def first_welcome(server: ServerUnderTest) -> None:
    """See that the server lets this game in at all. Errors: RuleBroken, OSError."""
    with server.connect() as wire:
        wire.wait_for(max(server.timeout_s, FIRST_WELCOME_S))
        wire.send(1, server.fields())
        try:
            value = wire.next(None, "WELCOME")
        except RuleBroken as problem:
            hint = "" if server.tls else "; if it has a certificate, give --tls or --ca"
            raise RuleBroken(f"{problem}{hint}") from None
        if value[0] == 15 and value[1] == "spec_mismatch":
            raise RuleBroken(
                "expected a server that trains on no game yet, or on this one; start one with a "
                f"new --run. The server's message: {value[2]}"
            )
        if value[0] == 15 and value[1] in ("bad_token", "too_many_attempts"):
            raise RuleBroken(f"give its token with --token. The server's message: {value[2]}")
        wire.send(5)


def check_server(server: ServerUnderTest) -> list[RuleResult]:
    """Play every case and every violation against a server that has let this game in."""
    if server.patience_s > 0:
        server.silent, server.silent_since = server.connect(), time.monotonic()
    results = []
    last = [case for case in CASES if case.name == "deadline"]
    for case in CASES:
        if case not in last:
            results.append(_tried(case, server))
    for violation in violations(server):
        # Named by its code, as in the specification's table.
        check = partial(play_violation, violation)
        case = Case(violation.code, "Errors", f"refused: {violation.name}", check)
        results.append(_tried(case, server))
    # Whatever was done wrong: a client that keeps the rules plays on.
    after = Case("afterwards", "Errors", "violations do not disturb other clients", CASES[0].check)
    results.append(_tried(after, server))
    results += [_tried(case, server) for case in last]
    if server.silent is not None:
        server.silent.close()
    return results


def _tried(case: Case, server: ServerUnderTest) -> RuleResult:
    try:
        case.check(server)
    except NotExercised as reason:
        return RuleResult(case.name, case.section, case.rule, UNSEEN, str(reason))
    except RuleBroken as problem:
        return RuleResult(case.name, case.section, case.rule, BROKEN, str(problem))
    except (ClientError, OSError) as problem:
        text = f"expected a connection, got {problem}"
        return RuleResult(case.name, case.section, case.rule, BROKEN, text)
    return RuleResult(case.name, case.section, case.rule, KEPT)
