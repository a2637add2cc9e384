"""A client over a WebSocket that may say what is not allowed."""

from __future__ import annotations

import socket
import ssl
from typing import Any, Self

import msgspec
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from protocol.spaces import GameSpec
from tests.support.running import hello_fields, obs_of
from tests.support.worlds import SPEC


class OpeningRefused(Exception):
    """The server did not open the WebSocket."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text


class WebSocketClient:
    """As tests.support.running.RawClient, over a WebSocket; another library's protocol."""

    def __init__(
        self,
        port: int,
        *,
        origin: str | None = None,
        context: ssl.SSLContext | None = None,
        timeout_s: float = 40.0,
    ) -> None:
        """Errors: OpeningRefused, OSError."""
        host, said = "127.0.0.1", origin
        self.protocol = ClientProtocol(parse_uri(f"ws://{host}:{port}/"), origin=said)  # type: ignore[arg-type]
        self.sock = socket.create_connection((host, port), timeout_s)
        try:
            if context is not None:
                self.sock = context.wrap_socket(self.sock, server_hostname=host)
            self.protocol.send_request(self.protocol.connect())
            self._flush()
            self._read()
            error = self.protocol.handshake_exc
            if isinstance(error, InvalidStatus):
                body = error.response.body
                raise OpeningRefused(error.response.status_code, bytes(body).decode())
            if error is not None:
                raise error
        except BaseException:
            self.sock.close()
            raise
        self._came: list[Any] = []

    def send(self, *messages: Any) -> None:
        for message in messages:
            self.protocol.send_binary(msgspec.msgpack.encode(message))
        self._flush()

    def recv(self) -> Any:
        """The next message; None at the end."""
        while not self._came:
            events = self._read()
            if not events:
                return None
            for event in events:
                if event.opcode is Opcode.BINARY:
                    self._came.append(msgspec.msgpack.decode(event.data))
        return self._came.pop(0)

    def welcome(self, spec: GameSpec = SPEC, **changes: Any) -> WebSocketClient:
        """Say HELLO and wait for WELCOME."""
        self.send([1, hello_fields(spec, **changes)])
        answer = self.recv()
        assert answer is not None
        assert answer[0] == 11, f"expected WELCOME, got {answer}"
        return self

    def frame(self, seq: int, status: int = 0, expert: Any = None, slot: int = 0) -> Any:
        """Send a frame and wait for its answer."""
        self.send([2, slot, seq, obs_of(seq), 0.5, status, expert, None])
        return self.recv()

    def refusal(self) -> tuple[str, str, bool]:
        """The ERROR that ends the connection: code, message, retry."""
        last: Any = None
        while (message := self.recv()) is not None:
            last = message
        assert last is not None, "closed without a word"
        assert last[0] == 15, f"expected ERROR, got {last}"
        return tuple(last[1:4])

    @property
    def closing(self) -> tuple[int, str]:
        """Code and reason of the server's closing."""
        close = self.protocol.close_rcvd
        assert close is not None
        return close.code, close.reason

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> list[Frame]:
        """What comes next; nothing at the end."""
        while True:
            data = self.sock.recv(65_536)
            if not data:
                self.protocol.receive_eof()
                return []
            self.protocol.receive_data(data)
            self._flush()
            events: list[Any] = self.protocol.events_received()
            if events or self.protocol.handshake_exc is not None:
                return events

    def _flush(self) -> None:
        data = b"".join(self.protocol.data_to_send())
        if data:
            self.sock.sendall(data)
