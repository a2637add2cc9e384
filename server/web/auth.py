"""Who may use the controls over HTTP: whoever says the control token.

It has to be in the Authorization header, which no page of another origin can send: a browser asks
first, and is never told yes. Wrong ones cost time: after a few, their address has to wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from protocol.tokens import Token
from server.net.rate_limits import FAILURES, WITHIN_S, FailureWindow, address_of


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request is not carried out."""

    status: int
    text: str
    headers: dict[str, str]


class Guard:
    """Checks tokens. For one thread."""

    def __init__(self, token: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = None if token is None else Token(token)
        self._failures = FailureWindow(FAILURES, WITHIN_S, clock)

    @property
    def enabled(self) -> bool:
        """There is a token, so there are controls."""
        return self._token is not None

    def check(self, authorization: str | None, address: str) -> Refused | None:
        """None where the request may be carried out."""
        if self._token is None:
            return Refused(
                403,
                "controls over HTTP are switched off; start the server with server.control_token "
                "(UNDERSTUDY_SERVER__CONTROL_TOKEN) or server.control_token_file, or use "
                "`understudy control`",
                {},
            )
        address = address_of(address)
        if wait_s := self._failures.wait_s(address):
            return Refused(
                429,
                f"too many wrong control tokens from {address}; wait {wait_s} s",
                {"retry-after": str(wait_s)},
            )
        if authorization is None:
            return Refused(
                401,
                "expected the header `Authorization: Bearer CONTROL_TOKEN`, got none",
                {"www-authenticate": "Bearer"},
            )
        scheme, _, said = authorization.partition(" ")
        # latin-1 is how a header's bytes became text: back to bytes, whatever they are.
        given = said.strip().encode("latin-1", "replace")
        if scheme.lower() == "bearer" and self._token.matches(given):
            return None
        self._failures.note(address)
        return Refused(
            401,
            "that is not the control token (server.control_token; not the games' server.token)",
            {"www-authenticate": "Bearer"},
        )
