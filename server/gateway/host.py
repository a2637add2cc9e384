"""What a connection needs of the gateway that it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from config.models import Config
from server.gateway.connection_log import ConnectionLog
from server.gateway.newcomers import Newcomers
from server.net.rate_limits import AddressLimits, TokenBucket

Of = TypeVar("Of", contravariant=True)
"""The connections."""


class Host(Protocol[Of]):
    """What a connection needs of the gateway that it belongs to."""

    log: ConnectionLog
    addresses: AddressLimits
    now: Callable[[], float]
    """The time, s, of a clock that only rises."""
    later: Callable[..., Any]
    """Call a function in so many seconds: of asyncio's loop."""
    newcomers: Newcomers
    """Where what comes before a valid HELLO waits."""
    schedule_turn: Callable[[], None]
    """Run a turn after all that is readable now has been read."""

    @property
    def config(self) -> Config:
        """The settings that hold now."""

    @property
    def crowded(self) -> bool:
        """Too many connections are still being told why they were refused."""

    def opened(self, connection: Of) -> TokenBucket | None:
        """A connection was accepted; what its frames are taken from. Errors: RemoteError."""

    def said_hello(self, connection: Of) -> None:
        """A valid HELLO has come."""

    @property
    def plays(self) -> Callable[[Of], None]:
        """Called with a connection that may send frames from now on."""

    def about(self) -> dict[str, Any]:
        """What this server is, for a client of another version."""

    def ending(self, connection: Of) -> None:
        """All is said to it; it only has to read that."""

    def lost(self, connection: Of) -> None:
        """The connection is gone."""
