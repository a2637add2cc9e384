"""A connection over a WebSocket: a session like any other, each of whose messages is one message of
the WebSocket, without its length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from config.models import ServerConfig
from protocol import codec
from protocol.errors import RemoteError
from protocol.framing import framed
from protocol.messages import Error, Settings, VersionError, Welcome
from protocol.session import ServerSession, State
from server.gateway.connection import GameConnection
from server.gateway.host import Host
from server.net.host_names import PageOrigins
from server.net.websocket import WebSocket


def page_origins(server: ServerConfig) -> PageOrigins:
    """Whose pages may connect, by these settings."""
    return PageOrigins(server.websocket_origins, server.http_names)


class WebSocketHost(Host[GameConnection], Protocol):
    """What such a connection needs besides."""

    elsewhere: str
    """Where clients connect that open no WebSocket."""

    def session_options(self) -> dict[str, Any]:
        """Those of a ServerSession."""


class WebSocketSession(ServerSession):
    """A ServerSession that is fed with what comes over a WebSocket."""

    __slots__ = ("_websocket",)

    def __init__(self, websocket: WebSocket, **options: Any) -> None:
        super().__init__(**options)
        self._websocket = websocket

    @property
    def partial(self) -> int:
        return self._websocket.partial

    @property
    def held(self) -> str:
        return self._websocket.held

    def receive(self, data: bytes) -> Iterator[Any]:
        for message in self._websocket.receive(data):
            yield from super().receive(framed(message))
            if self.state is State.CLOSED:
                return

    def ended(self) -> None:
        if self.state is not State.CLOSED and self.partial:
            raise RemoteError(
                "message_truncated",
                "expected the rest of a message, got the end of the connection after "
                f"{self.held}; send BYE before closing",
            )

    def welcomed(self) -> None:
        super().welcomed()
        self._websocket.allow(self._max_message_bytes)


class WebSocketConnection(GameConnection):
    """A GameConnection whose bytes are a WebSocket's."""

    def __init__(self, gateway: WebSocketHost, origins: PageOrigins) -> None:
        self._websocket = WebSocket(self._write, origins, gateway.elsewhere, self._count_ping)
        self._told: Error | VersionError | None = None
        """The error that ends it."""
        super().__init__(gateway, WebSocketSession(self._websocket, **gateway.session_options()))

    def send(self, data: bytes) -> None:
        if self._transport is not None and self._goodbye_since is None:
            self._websocket.send(data)

    def tell(self, message: Welcome | Settings | Error | VersionError) -> None:
        if isinstance(message, Error | VersionError):
            self._told = message
            if self._websocket.foreign:
                self._write(codec.encode(message))
                return
            if not self._websocket.opened:
                self._websocket.refuse(message)
                return
        super().tell(message)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and self._goodbye_since is None:
            self._transport.write(data)

    def _take_in(self, data: bytes) -> None:
        super()._take_in(data)
        if self._websocket.closed and not self.ending and self._transport is not None:
            self._transport.close()

    def _close(self) -> None:
        self._websocket.close(self._told)
        super()._close()
