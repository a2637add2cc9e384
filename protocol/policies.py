"""The policies that a connection with the role play may name in HELLO."""

from __future__ import annotations

from typing import NamedTuple

from protocol.errors import RemoteError
from protocol.messages import HelloFields

NEWEST, BEST = "newest", "best"
RECENT = "recent:"

MOST_RECENT = 16
"""Checkpoints that an opponent may be drawn from."""

MOST_UPDATES = 10**10 - 1
"""A checkpoint's name has ten digits."""


class PolicyName(NamedTuple):
    """A policy that is not the newest network."""

    update: int | None = None
    """The checkpoint after so many updates; None for another one."""
    recent: int | None = None
    """One of the newest so many checkpoints, drawn at the begin of each episode. With neither it is
    the best one."""

    def __str__(self) -> str:
        """As HELLO says it."""
        if self.update is not None:
            return str(self.update)
        return BEST if self.recent is None else f"{RECENT}{self.recent}"


def policy_of(hello: HelloFields) -> PolicyName | None:
    """Who plays a connection, where it is not the newest network. Errors: RemoteError."""
    text = hello.policy
    if hello.role != "play" and (text is not None or hello.explores):
        raise RemoteError(
            "bad_hello",
            f"policy, explores: expected them with the role play alone, got role {hello.role}; "
            "leave them out, or say the role play",
        )
    if text is None or text == NEWEST:
        return None
    if text == BEST:
        return PolicyName()
    number = text.removeprefix(RECENT)
    if number.isascii() and number.isdecimal() and len(number) <= 10:
        drawn = number != text
        if not drawn and int(number) <= MOST_UPDATES:
            return PolicyName(update=int(number))
        if drawn and 1 <= int(number) <= MOST_RECENT:
            return PolicyName(recent=int(number))
    raise RemoteError(
        "bad_hello",
        f"policy: expected {NEWEST}, {BEST}, a number of updates, or {RECENT}1 to "
        f"{RECENT}{MOST_RECENT}, got {text[:64]!r}; the names of checkpoints have the number",
    )
