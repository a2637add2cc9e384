"""Messages of the protocol as plain values: encode one, or read one from a blocking socket."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from protocol.framing import LENGTH_BYTES, framed


class Unreadable(Exception):
    """What came is no message of the protocol; the text says what was expected and what came."""

    def __init__(self, text: str, received: bytes) -> None:
        super().__init__(text)
        self.received = received
        """The first bytes of it."""


def message(*elements: Any) -> bytes:
    """A message as it travels; `elements`: its type, and what follows."""
    return framed(msgspec.msgpack.encode(elements))


class Readable(Protocol):
    """A blocking socket, or what is like one."""

    def recv(self, count: int, /) -> bytes:
        """At most so many bytes; none at the end."""


def receive_exactly(sock: Readable, count: int) -> bytes:
    """The next `count` bytes; fewer only where the connection has ended. Errors: OSError."""
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            break
        data += piece
    return bytes(data)


def receive_message(sock: Readable, *, max_bytes: int) -> list[Any] | None:
    """The next message as plain values; None where the connection ended behind a whole message.

    Errors: Unreadable; OSError, a TimeoutError among them.
    """
    head = receive_exactly(sock, LENGTH_BYTES)
    if not head:
        return None
    length = int.from_bytes(head, "big")
    if len(head) < LENGTH_BYTES:
        raise Unreadable(f"expected whole messages, got {head.hex()} and the end", head)
    if not 1 <= length <= max_bytes:
        raise Unreadable(f"expected a message, got a length of {length}", head)
    body = receive_exactly(sock, length)
    if len(body) < length:
        raise Unreadable(
            f"expected {length} bytes of a message, got {len(body)} and the end", head + body[:32]
        )
    try:
        value = msgspec.msgpack.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(
            f"expected one msgpack value, got {body[:32].hex()}: {error}", body[:32]
        ) from None
    if not isinstance(value, list) or not value or type(value[0]) is not int:
        raise Unreadable(
            f"expected an array that begins with its type, got {str(value)[:80]}", body[:32]
        )
    return value
