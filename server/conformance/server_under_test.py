"""The server under test: how to reach it, and what is known of it so far."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

from server.conformance.expectations import check_action, check_actions, check_welcome
from server.conformance.game import hello
from server.conformance.wire import Wire


@dataclass
class ServerUnderTest:
    """Where the cases connect, and what they have learnt of the server."""

    address: tuple[str, int]
    timeout_s: float
    token: str | None = None
    tls: ssl.SSLContext | None = None
    """What to encrypt with; None for a server that does not."""
    patience_s: float = 0.0
    """How long to wait for a server's deadlines; 0 leaves them out."""
    websocket: bool = False
    """Over WebSockets."""
    silent: Wire | None = None
    """A connection that has said nothing since `silent_since`."""
    silent_since: float = 0.0
    sessions: set[int] = field(default_factory=set)

    def connect(self) -> Wire:
        return Wire(self.address, self.timeout_s, self.tls, websocket=self.websocket)

    def fields(self, **changes: Any) -> dict[str, Any]:
        return hello(**({} if self.token is None else {"token": self.token}), **changes)

    def welcomed(self, **changes: Any) -> Wire:
        """A connection that has been let in."""
        wire = self.connect()
        try:
            wire.send(1, self.fields(**changes))
            check_welcome(wire.next(11, "WELCOME"), self.sessions)
        except BaseException:
            wire.close()
            raise
        return wire


def play(wire: Wire, *sent: list[Any], expert_alone: bool = False) -> list[list[Any]]:
    """Send frames, each after the answer to the one before; the answers, checked. `expert_alone`:
    in the role eval_expert."""
    out = []
    for one in sent:
        wire.send(*one)
        if one[0] == 2:
            out.append(check_action(wire.next(12, "ACTION"), one, expert_alone=expert_alone))
        else:
            out.append(check_actions(wire.next(13, "ACTIONS"), one))
    return out
