"""Requests of `set` and `control` to a running server, and the printed answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from server.control.mailbox import text_of
from server.control.unix_socket import ask

ANSWER_S = 120.0
"""How long to wait: a checkpoint may be on its way to a slow disk."""


def ask_and_print(command: str, run: Path, request: dict[str, Any]) -> int:
    """Ask the server of this run, and print its answer; the exit code."""
    answer, code = answer_of(command, run, request)
    if not code:
        print(text_of(answer))
    return code


def answer_of(command: str, run: Path, request: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """What the server of this run answers, and the exit code: where it is not 0 there is no answer,
    and why was printed."""
    try:
        answer = ask(run, request, ANSWER_S)
    except OSError as error:
        print(f"understudy {command}: {error}", file=sys.stderr)
        return {}, 1
    if "error" in answer:
        # It has been put into words there, for a person.
        print(f"understudy {command}: {answer['error']}", file=sys.stderr)
        return {}, 2
    return answer, 0
