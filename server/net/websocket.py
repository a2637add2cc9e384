"""A WebSocket as a server has it (RFC 6455): bytes in, whole messages out. No sockets here.

The bytes are read by the library `websockets`, in its form without I/O. It says what a message may
hold; how long it may be, how many little pieces it may come in, and who may open it is said here.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Callable, Iterator

from websockets.exceptions import PayloadTooBig
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from protocol.errors import RemoteError
from protocol.framing import HANDSHAKE_MAX_BYTES, LENGTH_BYTES
from protocol.messages import Error, VersionError
from server.net.host_names import PageOrigins

SLICE_BYTES, EARLY_SLICE_BYTES = 4096, 1024
"""Of what has come, taken at a time, and before the first message is whole: what is wrong is
noticed before the rest is looked at."""

REQUEST_BYTES = 16 * 1024
"""The longest opening request."""

LITTLE_BYTES = 1024
"""A piece of a message that is shorter, and not its last, costs as much as a PING."""

EARLY_FRAMES = 64
"""Of pieces and control frames together before the first message is whole."""

_GET = b"GET "

_SILENT = logging.getLogger("websockets.silent")
_SILENT.disabled = True
"""What is worth a line is logged by who has the connection."""


class WebSocket:
    """The server's side of one WebSocket. Its messages are binary; it knows no extension."""

    def __init__(
        self,
        write: Callable[[bytes], None],
        origins: PageOrigins,
        elsewhere: str,
        little: Callable[[], None],
    ) -> None:
        """`write`: sends bytes. `elsewhere`: where clients connect that open no WebSocket.
        `little`: called for each control frame and each little piece of a message; what it raises
        ends the connection."""
        self._write, self._origins, self._elsewhere = write, origins, elsewhere
        self._little = little
        self._protocol = ServerProtocol(max_size=HANDSHAKE_MAX_BYTES, logger=_SILENT)
        self._parts = bytearray()
        self._early = 0
        """Control frames and pieces so far; counted until there is a whole message."""
        self._request_bytes = 0
        self._whole = False
        """A whole message has come."""
        self.foreign = False
        """The first bytes are none of HTTP: whoever sent them cannot read an answer of HTTP."""
        self.opened = False
        """Messages can be sent."""
        self.closed = False
        """The other side has said that it closes, and was answered."""

    def allow(self, max_message_bytes: int) -> None:
        """Messages may be so long from now on."""
        self._protocol.max_message_size = max_message_bytes

    @property
    def partial(self) -> int:
        """Bytes that are held of what is not whole yet."""
        return len(self._protocol.reader.buffer) + len(self._parts)

    @property
    def held(self) -> str:
        """The same in words."""
        of = "a message" if self.opened else "the request that opens a WebSocket"
        return f"{self.partial} bytes of {of}"

    def receive(self, data: bytes) -> Iterator[bytes]:
        """The messages that these bytes complete, in order. To be exhausted before the next call.

        Errors: RemoteError `not_understudy`, `bad_origin`, `message_malformed`, `message_empty`,
        `message_too_long`; and what `little` raises."""
        view, start = memoryview(data), 0
        while start < len(view) and not self.closed:
            stop = start + (SLICE_BYTES if self._whole else EARLY_SLICE_BYTES)
            yield from self._take(bytes(view[start:stop]))
            start = stop

    def send(self, framed: bytes) -> None:
        """Send messages, each with its length before it (protocol.framing), one in a WebSocket
        message each."""
        if not self.opened:
            return
        out, view, start = [], memoryview(framed), 0
        while start < len(view):
            stop = start + LENGTH_BYTES + int.from_bytes(view[start : start + LENGTH_BYTES], "big")
            out.append(_bytes_of(Frame(Opcode.BINARY, view[start + LENGTH_BYTES : stop])))
            start = stop
        self._write(out[0] if len(out) == 1 else b"".join(out))

    def close(self, error: Error | VersionError | None) -> None:
        """Say that nothing more comes, and why, if the other side was told an error."""
        if self.opened and not self.closed:
            self._write(_bytes_of(Frame(Opcode.CLOSE, _close_of(error).serialize())))
        self.opened = False

    def refuse(self, error: Error | VersionError) -> None:
        """Answer the request that would have opened it with why it does not."""
        status = http.HTTPStatus.BAD_REQUEST
        if error.retry:
            status = http.HTTPStatus.SERVICE_UNAVAILABLE
        elif error.code == "bad_origin":
            status = http.HTTPStatus.FORBIDDEN
        text = f"{error.code}: {error.message}\n"
        self._write(self._protocol.reject(status, text).serialize())

    def _take(self, data: bytes) -> Iterator[bytes]:
        protocol = self._protocol
        if not self.opened:
            self._look_at_request(data)
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Request):
                self._open(event)
            elif isinstance(event, Frame):
                yield from self._messages(event)
        error = protocol.parser_exc or protocol.handshake_exc
        if error is not None:
            protocol.data_to_send()  # its closing: the error goes before
            raise self._failure(error)
        self._flush()

    def _look_at_request(self, data: bytes) -> None:
        """Before it is read. Errors: RemoteError."""
        there = self._request_bytes
        self._request_bytes += len(data)
        if there < len(_GET):
            head = bytes(self._protocol.reader.buffer[:there]) + data[: len(_GET) - there]
            if not _GET.startswith(head):
                self.foreign = not head[:1].isalpha()
                raise RemoteError(
                    "not_understudy",
                    "expected a request that opens a WebSocket, got bytes that begin with "
                    f"{head.hex(' ')}; this port is for WebSockets, clients over TCP connect to "
                    f"{self._elsewhere}",
                )
        if self._request_bytes > REQUEST_BYTES:
            raise RemoteError(
                "message_too_long",
                f"expected a request of at most {REQUEST_BYTES} bytes that opens a WebSocket, got "
                "more; send fewer headers (cookies, say)",
            )

    def _open(self, request: Request) -> None:
        """Errors: RemoteError."""
        refusal = self._origins.refusal(
            request.headers.get_all("Host"), request.headers.get_all("Origin")
        )
        if refusal is not None:
            raise RemoteError("bad_origin", refusal)
        response = self._protocol.accept(request)
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            raise self._failure(self._protocol.handshake_exc)
        self._protocol.send_response(response)
        self._flush()
        self.opened = True

    def _messages(self, frame: Frame) -> Iterator[bytes]:
        """What a frame completes. Errors: RemoteError."""
        if frame.opcode in (Opcode.PING, Opcode.PONG):
            self._count()
        elif frame.opcode is Opcode.CLOSE:
            self.closed = True
        elif frame.opcode is Opcode.TEXT:
            raise RemoteError(
                "message_malformed",
                "expected a binary message of the WebSocket, got a text message; send an "
                "ArrayBuffer or a Uint8Array that holds the msgpack of one message",
            )
        elif not frame.fin:
            if len(frame.data) < LITTLE_BYTES:
                self._count()
            self._parts += frame.data
        else:
            data = bytes(self._parts + frame.data) if self._parts else bytes(frame.data)
            self._parts.clear()
            self._whole = True
            if not data:
                raise RemoteError(
                    "message_empty", "expected a message of at least 1 byte, got one of 0 bytes"
                )
            yield data

    def _count(self) -> None:
        if self._whole:
            self._little()
            return
        self._early += 1
        if self._early > EARLY_FRAMES:
            raise RemoteError(
                "message_malformed",
                f"expected HELLO, got more than {EARLY_FRAMES} little pieces and control frames; "
                "send HELLO as one message",
            )

    def _failure(self, error: Exception | None) -> RemoteError:
        """What the library refused, in the protocol's words."""
        if isinstance(error, PayloadTooBig):
            return RemoteError(
                "message_too_long",
                f"expected a message of at most {self._protocol.max_message_size} bytes, got a "
                f"longer one ({error}); send less at once, or raise server.max_message_bytes",
            )
        causes = [str(error)]
        while error is not None and error.__cause__ is not None:
            error = error.__cause__  # type: ignore[assignment]
            causes.append(str(error))
        why = ": ".join(causes)
        if self.opened:
            return RemoteError(
                "message_malformed", f"expected frames of a WebSocket (RFC 6455), got others: {why}"
            )
        return RemoteError(
            "not_understudy",
            f"expected a request that opens a WebSocket (RFC 6455), got another: {why}; this port "
            "has no pages, the dashboard has one of its own (server.http_port)",
        )

    def _flush(self) -> None:
        """Send what the library answers by itself: the opening, PONGs, the closing."""
        if data := b"".join(self._protocol.data_to_send()):
            self._write(data)


def _bytes_of(frame: Frame) -> bytes:
    return frame.serialize(mask=False)


def _close_of(error: Error | VersionError | None) -> Close:
    if error is None:
        return Close(CloseCode.NORMAL_CLOSURE, "")
    code = CloseCode.TRY_AGAIN_LATER if error.retry else CloseCode.POLICY_VIOLATION
    return Close(code, error.code)
