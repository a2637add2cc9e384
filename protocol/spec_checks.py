"""Refusing what makes no game: names, and anything else in a HELLO, in one form of words."""

from __future__ import annotations

from typing import NoReturn

from protocol.errors import RemoteError

MAX_NAME = 64


def check_name(what: str, name: str) -> None:
    """Refuse a name that a log line or a table cannot hold. Errors: RemoteError `bad_hello`."""
    if not (1 <= len(name) <= MAX_NAME and name.isprintable()):
        refuse(what, f"a name of 1 to {MAX_NAME} printable characters", name)


def check_names(what: str, names: list[str]) -> None:
    """Refuse names of which one is no name, or that are not all different. Errors: those of
    `check_name`."""
    for name in names:
        check_name(what, name)
    if len(set(names)) != len(names):
        refuse(what, "different names", names)


def refuse(what: str, expected: str, got: object) -> NoReturn:
    """Raise RemoteError `bad_hello`."""
    raise RemoteError("bad_hello", f"{what}: expected {expected}, got {got!r}; correct the HELLO")
