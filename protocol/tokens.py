"""`Token`: compares a token in constant time, of whatever length: by digests."""

from __future__ import annotations

import hashlib
import hmac


class Token:
    """A token that is asked for. It keeps what it needs to compare, not the token."""

    __slots__ = ("_digest",)

    def __init__(self, token: str) -> None:
        self._digest = hashlib.sha256(token.encode()).digest()

    def matches(self, said: bytes) -> bool:
        """Whether these bytes are the token, as UTF-8. The time that it takes says nothing of where
        they differ."""
        return hmac.compare_digest(hashlib.sha256(said).digest(), self._digest)
