"""What a connection asks of its protocol's state, in either format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from protocol.messages import HelloFields
from protocol.policies import PolicyName
from protocol.session import State
from protocol.spaces import GameSpec


class WireSession(Protocol):
    """The protocol state of a connection: protocol.session.ServerSession, or that of the older
    format, protocol.tempest.TempestSession."""

    state: State
    hello: HelloFields | None
    spec: GameSpec | None
    policy: PolicyName | None
    """Who plays, where it is not the newest network."""
    sent_wrong_token: bool
    """It sent a token, and not the right one."""

    @property
    def held(self) -> str:
        """What is there of an unfinished message, in words."""

    def receive(self, data: bytes) -> Iterator[Any]:
        """The messages that these bytes complete. Errors: RemoteError."""

    def ended(self) -> None:
        """The connection ended. Errors: RemoteError `message_truncated`."""

    def welcomed(self) -> None:
        """Frames may come."""

    def failed(self) -> None:
        """The connection is over."""

    def answered(self, slot: int) -> None:
        """The frame of this slot was answered."""

    def answered_all(self) -> None:
        """The frames of all slots were answered."""
