"""One end of a connection that may say anything: messages as plain values, and raw bytes."""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Self

from server.conformance.report import NotExercised, RuleBroken
from server.net.plain_messages import Unreadable, message, receive_exactly, receive_message
from understudy_client.tls import secured

if TYPE_CHECKING:
    from server.conformance.websocket import FramedWebSocket

MAX_BYTES = 16 * 1024 * 1024
"""A length beyond this is no answer: a server's are a few bytes for each slot."""


class Wire:
    """A blocking connection to a server. What cannot be read raises RuleBroken."""

    def __init__(
        self,
        address: tuple[str, int],
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
        *,
        websocket: bool = False,
    ) -> None:
        """`tls`: what to encrypt with; `websocket`: over one. Errors: OSError,
        understudy_client.TlsError, RuleBroken where no WebSocket is opened."""
        self._timeout_s = timeout_s
        self._encrypted, self.websocket = tls is not None, websocket
        plain = socket.create_connection(address, timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket: socket.socket | FramedWebSocket = plain
        if tls is not None:
            self._socket = plain = secured(plain, tls, address)
        if websocket:
            # Here: whoever checks no WebSocket does not need the library.
            from server.conformance.websocket import FramedWebSocket

            try:
                self._socket = FramedWebSocket.to_server(plain, address)
            except BaseException:
                plain.close()
                raise

    def raw(self, data: bytes) -> None:
        """Send bytes. Where the other side has closed, what it said last is still to be read."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return

    def send(self, *elements: Any) -> None:
        """Send one message."""
        self.raw(message(*elements))

    def slowly(self, data: bytes) -> None:
        """Send bytes one at a time, each on its own."""
        for i in range(len(data)):
            self.raw(data[i : i + 1])
            time.sleep(0.0002)

    def end(self) -> None:
        """Say that nothing more will come, and go on reading. Errors: NotExercised."""
        if self._encrypted:
            raise NotExercised("TLS cannot end one direction alone; check without --tls")
        self._socket.shutdown(socket.SHUT_WR)

    def recv(self) -> list[Any] | None:
        """The next message; None where the server has closed the connection. Errors: RuleBroken."""
        try:
            return receive_message(self._socket, max_bytes=MAX_BYTES)
        except Unreadable as problem:
            raise RuleBroken(str(problem)) from None
        except TimeoutError:
            raise self._late() from None
        except ConnectionResetError:
            return None

    def exact(self, count: int) -> bytes:
        """The next so many bytes. Errors: RuleBroken."""
        try:
            data = receive_exactly(self._socket, count)
        except TimeoutError:
            raise self._late() from None
        except ConnectionResetError:
            data = b""
        if len(data) < count:
            raise RuleBroken(f"expected {count} bytes, got {len(data)} and the end")
        return data

    def wait_for(self, timeout_s: float) -> None:
        """From now on wait so long for each message."""
        self._timeout_s = timeout_s
        self._socket.settimeout(timeout_s)

    def next(self, kind: int | None, name: str) -> list[Any]:
        """The next message, of this type (None: any); SETTINGS may come at any time."""
        while True:
            value = self.recv()
            if value is None:
                raise RuleBroken(f"expected {name}, got the end of the connection")
            if value[0] == 16:
                if len(value) < 2 or not isinstance(value[1], dict):
                    raise RuleBroken(f"expected SETTINGS with a map, got {value}")
                continue
            if kind is not None and value[0] != kind:
                raise RuleBroken(f"expected {name}, got {str(value)[:300]}")
            return value

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _late(self) -> RuleBroken:
        return RuleBroken(
            "expected a message or the end of the connection, got nothing for "
            f"{self._timeout_s:g} s"
        )
