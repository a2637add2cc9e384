"""Who may use the controls over HTTP: whoever says the control token.

It has to be in the Authorization header, which no page of another origin can send: a browser asks
first, and is never told yes. Wrong ones cost time: after a few, their address has to wait.
"""

from __future__ import annotations

import hmac
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

FAILURES = 10
WITHIN_S = 60.0
"""So many wrong tokens from an address within this time, and it is heard no more until the oldest
is that old."""

ADDRESSES = 1024
"""Addresses that are remembered; beyond that the one whose failure is the longest ago is not."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request is not carried out."""

    status: int
    text: str
    headers: dict[str, str]


class Guard:
    """Checks tokens. For one thread."""

    def __init__(self, token: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = None if token is None else token.encode()
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

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
        if wait_s := self._wait_s(address):
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
        if scheme.lower() == "bearer" and hmac.compare_digest(given, self._token):
            return None
        self._failed(address)
        return Refused(
            401,
            "that is not the control token (server.control_token; not the games' server.token)",
            {"www-authenticate": "Bearer"},
        )

    def _wait_s(self, address: str) -> int:
        """Whole seconds for which this address is not heard; 0 where it is."""
        times = self._failures.get(address)
        if times is None or len(times) < FAILURES:
            return 0
        return max(0, math.ceil(times[0] + WITHIN_S - self._clock()))

    def _failed(self, address: str) -> None:
        times = self._failures.setdefault(address, deque(maxlen=FAILURES))
        times.append(self._clock())
        self._failures.move_to_end(address)
        if len(self._failures) > ADDRESSES:
            self._failures.popitem(last=False)
