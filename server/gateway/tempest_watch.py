"""Whether older clients for Tempest read replies of the length that they are sent.

Nothing in the format says it. A client that reads fewer bytes than it gets takes the rest for the
next reply, and its header repeats commands that it was never sent; what makes no sense to it may
end it within a few frames. One that waits for more gives up and connects again after each frame.
"""

from __future__ import annotations

from collections import OrderedDict
from struct import Struct

from agent.finding import Finding
from server.gateway.connection_log import ConnectionLog
from server.net.rate_limits import ADDRESSES

IN_A_ROW = 3
"""So many wrong echoes of a connection, or short visits from an address, are no accident."""

SHORT = 5
"""Frames of a short visit, at most: by then a client has read what was not meant as it took it."""

_COMMAND = Struct("bbb").unpack_from

_NOTHING = (0, 0, 0)


class EchoWatch:
    """Compares what a client's headers repeat with what it was sent. One for each connection."""

    def __init__(self) -> None:
        self.misread = False
        """The client has been found to read replies of another length."""
        self._sent: bytes | None = None
        self._wrong = 0

    def sent(self, reply: bytes) -> None:
        """The client was sent this."""
        self._sent = reply

    def heard(self, told: tuple[int, int, int]) -> bool:
        """The next header repeats this; whether it is one of several wrong ones. Zeros say nothing:
        a client that does not fill them in has them too."""
        sent, self._sent = self._sent, None
        if sent is None or told == _NOTHING:
            return False
        self._wrong = 0 if _COMMAND(sent) == told else self._wrong + 1
        return self._wrong >= IN_A_ROW


class MisreadLog:
    """Says which clients read replies of another length. One for each gateway."""

    def __init__(self, connections: ConnectionLog) -> None:
        self.count = 0
        """How often that was found, once for each connection."""
        self._connections = connections
        self._visits: OrderedDict[str, int] = OrderedDict()
        """By address, how many connections in a row were short visits."""

    def echoes(self, peer: str, echo: EchoWatch, reply_bytes: int) -> None:
        """A connection repeats commands that it was not sent."""
        if not echo.misread:
            echo.misread = True
            self.count += 1
        self._found(f"the frames of {peer} repeat commands that it was not sent", reply_bytes)

    def left(self, address: str, frames: int, reply_bytes: int) -> None:
        """A connection ended by itself after so many answers."""
        if frames > SHORT:
            self._visits.pop(address, None)
            return
        visits = self._visits.pop(address, 0) + 1
        self._visits[address] = visits
        if len(self._visits) > ADDRESSES:
            self._visits.popitem(last=False)
        if visits >= IN_A_ROW:
            self.count += visits == IN_A_ROW
            self._found(
                f"{visits} clients of {address} left after at most {SHORT} frames", reply_bytes
            )

    def _found(self, what: str, reply_bytes: int) -> None:
        other = 8 - reply_bytes
        self._connections.find(
            Finding(
                "tempest_reply_bytes",
                f"{what}: they seem to read replies of {other} bytes, and get {reply_bytes}",
                f"start the server with --tempest.reply_bytes {other}",
            )
        )
