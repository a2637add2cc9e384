"""A WebSocket that looks like a socket of TCP: what checks the one checks the other.

Whoever uses it sends and receives messages with their lengths before them, cut anywhere. What goes
out keeps its cuts, its lies about lengths and its ends: the length becomes the head of a frame, and
what is behind it follows as it comes.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import Self

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from protocol.framing import LENGTH_BYTES, framed
from server.conformance.report import RuleBroken

READ_BYTES = 65_536

_SILENT = logging.getLogger("websockets.silent")
_SILENT.disabled = True


class FramedWebSocket:
    """What Wire and ClientConnection need of a socket."""

    def __init__(self, sock: socket.socket, protocol: ClientProtocol | ServerProtocol) -> None:
        """Of a socket that is connected; makes no handshake."""
        self._socket, self._protocol = sock, protocol
        self._masked = isinstance(protocol, ClientProtocol)
        self._head = b""
        """Of a length that is not whole yet."""
        self._left = 0
        """Bytes of the message that is being sent."""
        self._inbox = bytearray()

    @classmethod
    def to_server(cls, sock: socket.socket, address: tuple[str, int]) -> FramedWebSocket:
        """Open one. Errors: RuleBroken where the server does not; OSError."""
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        uri = parse_uri(f"ws://{host}:{address[1]}/")
        protocol = ClientProtocol(uri, max_size=None, logger=_SILENT)
        self = cls(sock, protocol)
        protocol.send_request(protocol.connect())
        self._flush()
        while protocol.handshake_exc is None and not self._take(opening=True):
            pass
        error = protocol.handshake_exc
        if error is not None:
            body = error.response.body if isinstance(error, InvalidStatus) else b""
            said = f": {bytes(body).decode(errors='replace').strip()[:300]}" if body else ""
            raise RuleBroken(f"expected the server to open a WebSocket: {error}{said}")
        return self

    @classmethod
    def of_client(cls, sock: socket.socket) -> FramedWebSocket:
        """Answer who opens one. Errors: OSError."""
        protocol = ServerProtocol(max_size=None, logger=_SILENT)
        self = cls(sock, protocol)
        while not self._take(opening=True):
            pass
        if protocol.handshake_exc is not None:
            raise ConnectionAbortedError(
                f"expected a request that opens a WebSocket: {protocol.handshake_exc}"
            )
        return self

    def sendall(self, data: bytes) -> None:
        """Send bytes of messages with their lengths."""
        out = bytearray()
        while data:
            if self._left:
                piece = data[: self._left]
                out += piece
                self._left -= len(piece)
            else:
                piece = data[: LENGTH_BYTES - len(self._head)]
                self._head += piece
                if len(self._head) == LENGTH_BYTES:
                    self._left, self._head = int.from_bytes(self._head, "big"), b""
                    out += self._frame_head(self._left)
            data = data[len(piece) :]
        if out:
            self._socket.sendall(out)

    def recv(self, count: int) -> bytes:
        """At most so many bytes of messages with their lengths; none at the end."""
        while not self._inbox:
            if self._take():
                return b""
        data = bytes(self._inbox[:count])
        del self._inbox[:count]
        return data

    def settimeout(self, seconds: float | None) -> None:
        self._socket.settimeout(seconds)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        self._socket.setsockopt(level, option, value)

    def shutdown(self, how: int) -> None:
        self._socket.shutdown(how)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _frame_head(self, length: int) -> bytes:
        """Of a binary message in one piece. A mask of zeros leaves the bytes behind it as they
        are."""
        mask = 0x80 if self._masked else 0
        if length < 126:
            head = bytes([0x82, mask | length])
        elif length < 2**16:
            head = bytes([0x82, mask | 126]) + length.to_bytes(2, "big")
        else:
            head = bytes([0x82, mask | 127]) + length.to_bytes(8, "big")
        return head + bytes(4) if self._masked else head

    def _take(self, *, opening: bool = False) -> bool:
        """Read once; whether that was the end, or what opens it, where that is waited for."""
        protocol = self._protocol
        data = self._socket.recv(READ_BYTES)
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        ended = not data
        for event in protocol.events_received():
            if isinstance(event, Frame):
                if event.opcode is Opcode.BINARY and event.fin:
                    self._inbox += framed(bytes(event.data))
                elif event.opcode is Opcode.CLOSE:
                    ended = True
                elif event.opcode not in (Opcode.PING, Opcode.PONG):
                    raise RuleBroken(f"expected one binary frame for each message, got {event}")
            else:
                ended |= opening
                if isinstance(event, Request) and isinstance(protocol, ServerProtocol):
                    protocol.send_response(protocol.accept(event))
        self._flush()
        if self._inbox and not opening:
            return False  # what is there first; the end comes again
        return ended

    def _flush(self) -> None:
        if data := b"".join(self._protocol.data_to_send()):
            # What the library answers by itself: this end, or the other, may be closed already.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._socket.sendall(data)
