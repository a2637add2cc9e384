"""Cutting a byte stream into messages: u32 big-endian length N, then N bytes."""

from __future__ import annotations

from collections.abc import Iterator

from protocol.errors import RemoteError

LENGTH_BYTES = 4

HANDSHAKE_MAX_BYTES = 64 * 1024
"""Until WELCOME nothing needs more, and nobody unknown should make the server hold more."""

_FOREIGN = {
    b"GET ": "HTTP",
    b"POST": "HTTP",
    b"PUT ": "HTTP",
    b"HEAD": "HTTP",
    b"OPTI": "HTTP",
    b"CONN": "HTTP",
    b"DELE": "HTTP",
    b"PATC": "HTTP",
    b"PRI ": "HTTP/2",
    b"SSH-": "SSH",
}


class MessageReader:
    """Bytes in, whole messages out; bytes may be split or glued at any point.

    `limit` is the largest message accepted, in bytes; it may be raised at any time.
    """

    __slots__ = ("_rest", "_started", "limit")

    def __init__(self, limit: int = HANDSHAKE_MAX_BYTES) -> None:
        self.limit = limit
        self._rest = bytearray()
        self._started = False

    @property
    def partial(self) -> int:
        """How many bytes of an unfinished message are held."""
        return len(self._rest)

    @property
    def held(self) -> str:
        """How much of an unfinished message is there, in words, and what may be wrong with it."""
        there = len(self._rest)
        length = int.from_bytes(self._rest[:LENGTH_BYTES], "big")
        if there < LENGTH_BYTES:
            return f"{there} bytes"
        whole = LENGTH_BYTES + length
        text = f"{there} of the {whole} bytes of a message whose length says {length}"
        return (
            f"{text}; the length must not count itself" if whole - there == LENGTH_BYTES else text
        )

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """The messages that `data` completes, without their lengths, in order.

        To be exhausted before the next call: each length is checked when it is reached, so that
        messages before a wrong one arrive, however the bytes were glued. The views stay valid as
        long as they are held; nothing is copied where a message arrived whole. Errors: RemoteError
        `message_too_long`, `message_empty`, `not_understudy`.
        """
        if not self._rest and self._whole(data):
            yield memoryview(data)[LENGTH_BYTES:]
            return
        if self._rest:
            self._rest += data
            # One copy when the message is complete, none for each piece before that.
            if len(self._rest) < LENGTH_BYTES + self._announced(self._rest):
                return
            data = bytes(self._rest)
            self._rest.clear()
        view = memoryview(data)
        start, end = 0, len(data)
        while end - start >= LENGTH_BYTES:
            length = self._announced(view[start : start + LENGTH_BYTES])
            stop = start + LENGTH_BYTES + length
            if stop > end:
                break
            yield view[start + LENGTH_BYTES : stop]
            start = stop
        if start < end:
            self._rest += view[start:]

    def _whole(self, data: bytes) -> bool:
        """Whether this is one message and nothing else, as it is on the frame path."""
        length = len(data) - LENGTH_BYTES
        if 1 <= length <= self.limit and int.from_bytes(data[:LENGTH_BYTES], "big") == length:
            self._started = True
            return True
        return False

    def _announced(self, head: bytearray | memoryview) -> int:
        """The length that the first four bytes announce; 0 while they are not all there."""
        if len(head) < LENGTH_BYTES:
            return 0
        length = int.from_bytes(head[:LENGTH_BYTES], "big")
        if 1 <= length <= self.limit:
            self._started = True
            return length
        if not self._started:
            first = bytes(head[:LENGTH_BYTES])
            foreign = "TLS" if first[:2] == b"\x16\x03" else _FOREIGN.get(first)
            if foreign:
                raise RemoteError(
                    "not_understudy",
                    f"expected an understudy HELLO, got what looks like {foreign}; "
                    "this port speaks the understudy protocol only",
                )
        if length == 0:
            raise RemoteError(
                "message_empty", "expected a message of at least 1 byte, got a length of 0"
            )
        cure = "send less at once, or raise server.max_message_bytes"
        if not self._started:
            cure = _cure(bytes(head[:LENGTH_BYTES]), self.limit)
        raise RemoteError(
            "message_too_long",
            f"expected a message of at most {self.limit} bytes, got a length of {length}; {cure}",
        )


def _cure(head: bytes, limit: int) -> str:
    """What may be wrong where the very first length is too long: HELLO is some 100 bytes."""
    reverse = int.from_bytes(head, "little")
    if 1 <= reverse <= limit:
        return f"send the length big-endian: the other way round these 4 bytes are {reverse}"
    if head[0] & 0xF0 == 0x90:
        return (
            f"send the length first, 4 bytes, big-endian: {head.hex(' ')} looks like the message "
            "itself, an array of msgpack"
        )
    return f"send 4 bytes of length, big-endian, then HELLO: the first bytes were {head.hex(' ')}"


def framed(payload: bytes) -> bytes:
    """A message with its length before it."""
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload
