"""`understudy conformance`: does a server, or a client, keep to protocol/SPEC.md?"""

from __future__ import annotations

import argparse
import time

from server.conformance_cases import CASES, Player
from server.conformance_misdeeds import misdeeds, play_misdeed
from server.conformance_report import (
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def check_server(player: Player) -> list[Finding]:
    """Play every case against the server."""
    findings = []
    if player.patience_s > 0:
        player.silent, player.silent_since = player.connect(), time.monotonic()
    def run(name, section, rule, check) -> None:
        try:
            check()
        except NotExercised as reason:
            findings.append(Finding(name, section, rule, UNSEEN, str(reason)))
        except Broken as problem:
            findings.append(Finding(name, section, rule, BROKEN, str(problem)))
        except OSError as problem:
            findings.append(Finding(name, section, rule, BROKEN, f"the connection failed: {problem}"))
        else:
            findings.append(Finding(name, section, rule, KEPT))
    for case in CASES:
        if case.name != "deadline": run(case.name, case.section, case.rule, lambda: case.check(player))
    for m in misdeeds(player):
        run(m.code + ": " + m.name, "Errors", "", lambda: play_misdeed(m, player))
    for case in CASES:
        if case.name == "deadline": run(case.name, case.section, case.rule, lambda: case.check(player))
    return findings


def main(args: argparse.Namespace) -> int:
    return 0
