"""Whether older clients for Tempest read replies of the length that they are sent.

Nothing in the format says it. A client that reads fewer bytes than it gets takes the rest for the
next reply, and its header repeats commands that it was never sent. One that waits for more gives up
and connects again after each frame.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from struct import Struct

from server.gateway.connection_log import ConnectionLog
from server.net.rate_limits import ADDRESSES

log = logging.getLogger("gateway")

IN_A_ROW = 3
"""So many wrong echoes of a connection, or visits of one frame from an address, are no accident."""

_COMMAND = Struct("bbb").unpack_from

_NOTHING = (0, 0, 0)


class EchoWatch:
    """Compares what a client's headers repeat with what it was sent. One for each connection."""

    def __init__(self) -> None:
        self._sent: bytes | None = None
        self._wrong = 0
        self._known = False

    def sent(self, reply: bytes) -> None:
        """The client was sent this."""
        self._sent = reply

    def heard(self, told: tuple[int, int, int]) -> bool:
        """The next header repeats this; whether that shows now, and did not before, that the client
        reads replies of another length. Zeros say nothing: a client that does not fill them in has
        them too."""
        sent, self._sent = self._sent, None
        if sent is None or told == _NOTHING:
            return False
        self._wrong = 0 if _COMMAND(sent) == told else self._wrong + 1
        if self._wrong < IN_A_ROW or self._known:
            return False
        self._known = True
        return True


class MisreadLog:
    """Says which clients read replies of another length. One for each gateway."""

    def __init__(self, connections: ConnectionLog) -> None:
        self.count = 0
        """Connections that gave it away."""
        self._connections = connections
        self._visits: OrderedDict[str, int] = OrderedDict()
        """By address, how many connections in a row left after one frame."""

    def echoes_wrong(self, peer: str, address: str, reply_bytes: int) -> None:
        """A connection repeats commands that it was not sent."""
        self._noticed(
            peer,
            address,
            reply_bytes,
            f"its last {IN_A_ROW} frames repeat commands that it was not sent",
        )

    def left(self, peer: str, address: str, frames: int, reply_bytes: int) -> None:
        """A connection ended by itself after so many answers."""
        if frames != 1:
            self._visits.pop(address, None)
            return
        visits = self._visits.pop(address, 0) + 1
        self._visits[address] = visits
        if len(self._visits) > ADDRESSES:
            self._visits.popitem(last=False)
        if visits % IN_A_ROW == 0:
            self._noticed(
                peer,
                address,
                reply_bytes,
                f"{visits} connections in a row from {address} left after one frame",
            )

    def _noticed(self, peer: str, address: str, reply_bytes: int, what: str) -> None:
        self.count += 1
        other = 8 - reply_bytes
        self._connections.warn(
            address,
            f"{peer}: {what}: the client seems to read replies of {other} bytes, and gets "
            f"{reply_bytes}; start the server with --tempest.reply_bytes {other}",
        )
