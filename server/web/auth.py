"""Authentication of controls over HTTP with the control token.

The token is in the Authorization header, which a page of another origin cannot send: the browser's
preflight request is always refused. After a few wrong tokens, further wrong ones from their address
are told to wait; the right one is let in all the same, or anybody could lock the operator out. What
makes guessing hopeless is the token's length (server.supervisor.exposure).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from protocol.tokens import Token
from server.net.rate_limits import FAILURES, WITHIN_S, FailureWindow, address_of


@dataclass(frozen=True, slots=True)
class AuthError:
    """The answer to a request without the right token."""

    status: int
    text: str
    headers: dict[str, str]


class TokenAuth:
    """Checks control tokens. For one thread."""

    def __init__(self, token: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = None if token is None else Token(token)
        self._failures = FailureWindow(FAILURES, WITHIN_S, clock)

    @property
    def enabled(self) -> bool:
        """The server has a control token, so there are controls."""
        return self._token is not None

    def check(self, authorization: str | None, address: str) -> AuthError | None:
        """None if the request has the right token. `authorization`: the header; `address`: of the
        client."""
        if self._token is None:
            return AuthError(
                403,
                "controls over HTTP are disabled; restart the server with server.control_token "
                "(UNDERSTUDY_SERVER__CONTROL_TOKEN) or server.control_token_file, or use "
                "`understudy control`",
                {},
            )
        if authorization is None:
            return AuthError(
                401,
                "expected the header `Authorization: Bearer CONTROL_TOKEN`, got none",
                {"www-authenticate": "Bearer"},
            )
        scheme, _, token = authorization.partition(" ")
        # latin-1 is how a header's bytes became text: back to bytes, whatever they are.
        given = token.strip().encode("latin-1", "replace")
        if scheme.lower() == "bearer" and self._token.matches(given):
            return None
        address = address_of(address)
        wait_s = self._failures.wait_s(address)
        self._failures.note(address)
        if wait_s:
            return AuthError(
                429,
                f"too many wrong control tokens from {address}; retry in {wait_s} s, with "
                "server.control_token",
                {"retry-after": str(wait_s)},
            )
        return AuthError(
            401,
            "wrong control token; expected server.control_token, not the games' server.token",
            {"www-authenticate": "Bearer"},
        )
