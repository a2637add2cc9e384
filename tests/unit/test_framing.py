from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import RemoteError
from protocol.framing import HANDSHAKE_MAX_BYTES, LENGTH_BYTES, MessageReader, framed

MESSAGES = st.lists(st.binary(min_size=1, max_size=300), max_size=8)


def feed(reader: MessageReader, data: bytes) -> list[bytes]:
    return [bytes(message) for message in reader.feed(data)]


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def outcome(data: bytes, cuts: list[int], limit: int) -> tuple[list[bytes], str | None]:
    """The messages of a stream cut like this, and the code of the error that ended it."""
    reader, out = MessageReader(limit), []
    try:
        for piece in cut(data, cuts):
            for message in reader.feed(piece):
                out.append(bytes(message))
    except RemoteError as error:
        return out, error.code
    return out, None


@given(MESSAGES, st.lists(st.integers(0, 2500), max_size=12), st.binary(max_size=3))
def test_stream_split_anywhere_yields_same_messages(
    messages: list[bytes], cuts: list[int], rest: bytes
) -> None:
    reader = MessageReader()
    stream = b"".join(map(framed, messages)) + rest
    got = [m for piece in cut(stream, cuts) for m in feed(reader, piece)]
    assert got == messages
    assert reader.partial == len(rest)


@given(MESSAGES, st.binary(min_size=4, max_size=40), st.lists(st.integers(0, 2500), max_size=12))
def test_invalid_stream_split_anywhere_yields_same_messages_and_error(
    messages: list[bytes], junk: bytes, cuts: list[int]
) -> None:
    stream = b"".join(map(framed, messages)) + junk
    assert outcome(stream, cuts, 300) == outcome(stream, [], 300)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_random_bytes_raise_only_remote_error(pieces: list[bytes]) -> None:
    reader = MessageReader(limit=100)
    for piece in pieces:
        try:
            feed(reader, piece)
        except RemoteError:
            return
        assert reader.partial <= 100 + LENGTH_BYTES


def test_message_view_stays_valid_after_next_feed() -> None:
    reader = MessageReader()
    [first] = reader.feed(framed(b"first") + b"\x00")
    list(reader.feed(b"\x00\x00\x06second"))
    assert bytes(first) == b"first"
    [split] = list(reader.feed(b"\x00\x00\x00\x02ab\x00\x00"))
    list(reader.feed(b"\x00\x01c"))
    assert bytes(split) == b"ab"


def test_framed_prefixes_big_endian_payload_length() -> None:
    assert framed(b"x" * 258)[:5] == b"\x00\x00\x01\x02x"


def test_message_at_limit_accepted_and_one_byte_more_raises() -> None:
    assert feed(MessageReader(5), framed(b"12345")) == [b"12345"]
    with pytest.raises(RemoteError, match=r"expected .* at most 5 bytes, got a length of 6") as no:
        feed(MessageReader(5), framed(b"123456"))
    assert no.value.code == "message_too_long"


def test_default_limit_is_handshake_limit_and_can_be_raised() -> None:
    reader = MessageReader()
    assert reader.limit == HANDSHAKE_MAX_BYTES == 65_536
    reader.limit = 70_000
    assert len(feed(reader, framed(bytes(70_000)))) == 1


def test_limit_raised_between_messages_applies_to_next() -> None:
    reader = MessageReader(5)
    messages = reader.feed(framed(b"hello") + framed(b"longer"))
    assert bytes(next(messages)) == b"hello"
    reader.limit = 6
    assert bytes(next(messages)) == b"longer"


def test_oversized_length_raises_before_body_arrives() -> None:
    with pytest.raises(RemoteError):
        feed(MessageReader(), b"\x7f\xff\xff\xff")


def test_zero_length_message_raises() -> None:
    with pytest.raises(RemoteError, match=r"expected .* at least 1 byte, got a length of 0") as no:
        feed(MessageReader(), bytes(4))
    assert no.value.code == "message_empty"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"GET / HTTP/1.1", "HTTP"),
        (b"POST / HTTP/1.1", "HTTP"),
        (b"PUT / HTTP/1.1", "HTTP"),
        (b"HEAD / HTTP/1.1", "HTTP"),
        (b"OPTIONS * HTTP/1.1", "HTTP"),
        (b"CONNECT host:443", "HTTP"),
        (b"DELETE / HTTP/1.1", "HTTP"),
        (b"PATCH / HTTP/1.1", "HTTP"),
        (b"PRI * HTTP/2.0", "HTTP/2"),
        (b"SSH-2.0-x", "SSH"),
        (b"\x16\x03\x01\x00\xc8", "TLS"),
    ],
)
def test_foreign_protocol_first_bytes_error_names_protocol(data: bytes, what: str) -> None:
    for pieces in ([data], [data[:1], data[1:]]):
        reader = MessageReader()
        with pytest.raises(RemoteError, match=f"expected .* HELLO, got .* {what};") as caught:
            [feed(reader, piece) for piece in pieces]
        assert caught.value.code == "not_understudy"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ((102).to_bytes(4, "little"), "big-endian: the other way round these 4 bytes are 102"),
        ((146).to_bytes(4, "little"), "big-endian: the other way round these 4 bytes are 146"),
        (b"\x92\x01\x85\xa8protocol", "send the length first, .* 92 01 85 a8 looks like"),
        (b'{"protocol"', "send 4 bytes of length, big-endian, .* 7b 22 70 72"),
    ],
)
def test_implausible_first_length_error_suggests_cause(data: bytes, says: str) -> None:
    for pieces in ([data], [data[:3], data[3:]]):
        reader = MessageReader()
        with pytest.raises(RemoteError, match=says) as caught:
            [feed(reader, piece) for piece in pieces]
        assert caught.value.code == "message_too_long"
        assert "max_message_bytes" not in caught.value.message


def test_oversized_later_length_error_suggests_raising_limit() -> None:
    reader = MessageReader()
    feed(reader, framed(b"x"))
    with pytest.raises(RemoteError, match=r"or raise server\.max_message_bytes"):
        feed(reader, (102).to_bytes(4, "little"))


def test_http_bytes_after_first_message_are_read_as_length() -> None:
    reader = MessageReader()
    feed(reader, framed(b"x"))
    with pytest.raises(RemoteError) as caught:
        feed(reader, b"GET / HTTP/1.1")
    assert caught.value.code == "message_too_long"


def test_large_message_fed_byte_by_byte_is_read_whole() -> None:
    # 64 KiB one byte at a time: copying what is held for each would move 2 GB.
    reader, message = MessageReader(), bytes(65_536)
    got = [m for byte in framed(message) for m in feed(reader, bytes([byte]))]
    assert got == [message]
