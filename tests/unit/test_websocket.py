"""WebSockets without sockets: what is answered, what is refused, and in whose words."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from protocol import codec
from protocol.errors import RemoteError
from protocol.framing import framed
from protocol.messages import Error, Pong, Welcome, WelcomeFields
from protocol.session import State
from server.gateway.connection import PINGS_BURST
from server.gateway.websocket import WebSocketConnection
from server.net.host_names import PageOrigins
from server.net.websocket import (
    EARLY_FRAMES,
    EARLY_SLICE_BYTES,
    LITTLE_BYTES,
    REQUEST_BYTES,
    SLICE_BYTES,
    WebSocket,
)
from tests.support.connection import CONFIG, FIELDS, HELLO, FakeGateway, FakeTransport
from tests.support.running import obs_of

MASK = b"\x01\x02\x03\x04"
PAYLOAD = HELLO[4:]


class BrowserGateway(FakeGateway):
    """What a WebSocket's connection knows of its gateway."""

    elsewhere = "port 7777 (server.port)"

    longest = CONFIG.server.max_message_bytes

    def session_options(self) -> dict[str, Any]:
        return {"max_message_bytes": self.longest}


class Page:
    """The other end: another library's client, and a connection with a fake socket."""

    def __init__(self, *, opens: bool = True, **headers: str) -> None:
        self.gateway, self.transport = BrowserGateway(), FakeTransport()
        origins = PageOrigins(["https://allowed.example"], ["trainer.example"])
        host: Any = self.gateway
        self.connection = WebSocketConnection(host, origins)
        self.connection.connection_made(self.transport)
        self.client = ClientProtocol(parse_uri("ws://127.0.0.1:7780/"))
        self.request = self.client.connect()
        for name, value in headers.items():
            if name in self.request.headers:
                del self.request.headers[name]
            self.request.headers[name] = value
        self.code: int | None = None
        if opens:
            self.receive(self.request.serialize())

    def receive(self, *data: bytes) -> None:
        for each in data:
            self.connection.data_received(each)

    def say(self, *payloads: bytes) -> None:
        self.receive(*(frame_of(payload) for payload in payloads))

    @property
    def status(self) -> int:
        """Of the answer in HTTP."""
        return int(bytes(self.transport.sent).split(b" ", 2)[1])

    @property
    def text(self) -> str:
        return bytes(self.transport.sent).decode(errors="replace")

    def messages(self) -> list[Any]:
        """What the client has been told since the last call."""
        data = bytes(self.transport.sent)
        self.transport.sent.clear()
        if data.startswith(b"HTTP/1.1 101"):
            self.client.send_request(self.request)
        self.client.receive_data(data)
        out = []
        for event in self.client.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                out.append(codec.decode_server(bytes(event.data)))
        if self.client.close_rcvd is not None:
            self.code = self.client.close_rcvd.code
        return out

    def error(self) -> Error:
        (found,) = (each for each in self.messages() if isinstance(each, Error))
        return found

    def playing(self) -> Page:
        self.say(PAYLOAD)
        fields = WelcomeFields(session=5, protocol=1, server="s/1", settings={})
        loop: Any = self.gateway.frame_loop
        self.connection.welcome(Welcome(fields), np.array([0, 1]), loop)
        assert isinstance(self.messages()[-1], Welcome)
        return self


def frame_of(data: bytes, opcode: Opcode = Opcode.BINARY, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def frame_bytes(seq: int = 0, slot: int = 0) -> bytes:
    return msgspec.msgpack.encode([2, slot, seq, obs_of(seq), 0.0, 0, None, None])


# What goes well.


def test_messages_in_any_pieces_are_those_of_the_protocol() -> None:
    """The opening and HELLO glued, a byte at a time; frames glued; a message in two pieces."""
    page = Page(opens=False)
    for byte in page.request.serialize() + frame_of(PAYLOAD):
        page.receive(bytes([byte]))
    assert page.status == 101
    assert page.connection.session.state is State.AWAIT_WELCOME
    page = Page().playing()
    one, two = frame_bytes(), frame_bytes(slot=1)
    page.receive(frame_of(two[:9], fin=False) + frame_of(two[9:], Opcode.CONT) + frame_of(one))
    assert [(each.slot, each.seq) for each in page.gateway.frame_loop.frames] == [(1, 0), (0, 0)]


def test_several_answers_at_once_are_a_message_each() -> None:
    page = Page().playing()
    page.connection.send(codec.encode(Pong(1)) + codec.encode(Pong("two" * 100)))
    assert page.messages() == [Pong(1), Pong("two" * 100)]


def test_ping_of_the_websocket_and_of_the_protocol_are_answered() -> None:
    page = Page().playing()
    page.receive(frame_of(b"there?", Opcode.PING), frame_of(msgspec.msgpack.encode([4, 7])))
    assert bytes(page.transport.sent).startswith(b"\x8a\x06there?")
    assert page.messages() == [Pong(7)]


def test_message_may_be_long_once_the_game_is_welcome() -> None:
    """The limit is the setting's, of all pieces together."""
    page = Page().playing()
    most = CONFIG.server.max_message_bytes
    page.receive(frame_of(bytes(most - 1000), fin=False), frame_of(bytes(1001), Opcode.CONT))
    error = page.error()
    assert error.code == "message_too_long"
    assert f"at most {most} bytes" in error.message


def test_setting_beyond_the_limit_of_the_handshake_holds_from_welcome_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BrowserGateway, "longest", 200_000)
    nonce = msgspec.msgpack.encode([4, bytes(100_000)])
    early = Page()
    early.receive(frame_of(nonce))
    assert early.error().code == "message_too_long"
    page = Page().playing()
    page.receive(frame_of(nonce))
    assert page.messages() == [Pong(bytes(100_000))]


def test_bye_and_closing_end_the_websocket_in_order() -> None:
    page = Page().playing()
    page.say(b"\x91\x05")
    assert page.messages() == []
    assert page.code == 1000
    assert page.transport.half_closed
    other = Page().playing()
    other.receive(frame_of(b"\x03\xe9", Opcode.CLOSE) + frame_of(b"\xc1"))
    assert other.messages() == []
    assert other.code == 1001
    assert other.transport.closed
    assert not other.gateway.errors


# What is refused.


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (frame_of(b"[1, {}]", Opcode.TEXT), "message_malformed", "got a text message"),
        (frame_of(b""), "message_empty", "at least 1 byte"),
        (frame_of(b"\xc1"), "message_malformed", "msgpack"),
        (b"\x82\x01\x91", "message_malformed", "incorrect masking"),
        (b"\xc2\x81" + MASK + b"\x91", "message_malformed", "RFC 6455"),
        (b"\x83\x81" + MASK + b"\x91", "message_malformed", "RFC 6455"),
        (b"\x82\xff" + b"\x00\x00\x00\x01\x00\x00\x00\x00" + MASK, "message_too_long", "65536"),
        (frame_of(frame_bytes()), "hello_first", "HELLO"),
    ],
    # Masks are random: names made of the bytes would be others in each process that runs tests.
    ids=[
        "text",
        "empty",
        "no MessagePack",
        "unmasked",
        "reserved bits",
        "opcode",
        "long",
        "no HELLO",
    ],
)
def test_wrong_bytes_get_an_error_in_a_message_and_a_close_code(
    data: bytes, code: str, says: str
) -> None:
    page = Page()
    page.receive(data)
    error = page.error()
    assert error.code == code
    assert says in error.message
    assert page.code == 1008
    assert page.transport.half_closed
    assert page.gateway.errors == {code: 1}


def test_error_with_retry_has_a_close_code_of_its_own() -> None:
    page = Page().playing()
    page.connection.fail(RemoteError("server_stopping", "later", retry=True))
    assert page.error().retry
    assert page.code == 1013


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "this port has no pages"),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", "connect to port 7777"),
        (b"GET nonsense\r\n\r\n", "opens a WebSocket"),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            "Sec-WebSocket-Version",
        ),
    ],
)
def test_other_requests_get_an_answer_of_http(request_: bytes, says: str) -> None:
    page = Page(opens=False)
    page.receive(request_)
    assert page.status == 400
    assert "not_understudy: " in page.text
    assert says in page.text
    assert page.transport.half_closed
    assert page.gateway.errors == {"not_understudy": 1}


def test_client_over_tcp_is_told_in_its_own_format_where_to_connect() -> None:
    page = Page(opens=False)
    page.receive(HELLO)
    error = codec.decode_server(bytes(page.transport.sent[4:]))
    assert isinstance(error, Error)
    assert error.code == "not_understudy"
    assert "connect to port 7777 (server.port)" in error.message


def test_long_request_is_refused_before_it_is_held() -> None:
    page = Page(opens=False)
    page.receive(
        b"GET / HTTP/1.1\r\n" + (b"X: " + b"1" * 5000 + b"\r\n") * (REQUEST_BYTES // 5000 + 1)
    )
    assert page.status == 400
    assert "message_too_long" in page.text


def test_late_request_gets_its_deadline_in_words() -> None:
    page = Page(opens=False)
    page.receive(b"GET / HT")
    page.gateway.time += 11.0
    page.connection.check(page.gateway.time)
    assert page.status == 503
    assert "got 8 bytes of the request that opens a WebSocket" in page.text


def test_end_in_the_middle_of_a_message_is_noticed() -> None:
    page = Page().playing()
    page.receive(frame_of(frame_bytes())[:-1])
    page.connection.connection_lost(None)
    assert page.gateway.errors == {"message_truncated": 1}


# Floods.


@pytest.mark.promise("hostile-connections")
def test_flood_of_little_pieces_before_hello_ends_early() -> None:
    """However many come, a slice of them is looked at."""
    page = Page()
    piece = frame_of(b"", Opcode.PING)
    page.receive(piece * 100_000)
    assert page.error().code == "message_malformed"
    assert page.transport.sent.count(b"\x8a\x00") <= EARLY_SLICE_BYTES // len(piece)


@pytest.mark.promise("hostile-connections")
@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG, Opcode.CONT])
def test_flood_of_little_pieces_of_a_game_is_too_fast(opcode: Opcode) -> None:
    page = Page().playing()
    if opcode is Opcode.CONT:
        page.receive(frame_of(b"", fin=False))
    page.receive(frame_of(b"", opcode, fin=opcode is not Opcode.CONT) * int(PINGS_BURST - 2))
    assert not page.gateway.errors
    page.receive(frame_of(b"", opcode, fin=opcode is not Opcode.CONT) * SLICE_BYTES)
    assert page.gateway.errors == {"too_fast": 1}


def test_long_pieces_cost_nothing() -> None:
    """As browsers send long messages."""
    taken: list[None] = []
    socket, client = bare(lambda: taken.append(None))
    socket.allow(2**30)
    assert len(list(socket.receive(client + frame_of(b"first")))) == 1
    pieces = [frame_of(bytes(LITTLE_BYTES), Opcode.CONT, fin=False)] * 100
    whole = [frame_of(b"a", fin=False), *pieces, frame_of(b"z", Opcode.CONT)]
    (message,) = socket.receive(b"".join(whole))
    assert len(message) == 100 * LITTLE_BYTES + 2
    assert len(taken) == 1, "the first piece is little"


def bare(little: Any = lambda: None) -> tuple[WebSocket, bytes]:
    """A WebSocket that nobody has opened yet, and the request that opens it."""
    client = ClientProtocol(parse_uri("ws://127.0.0.1:7780/"))
    socket = WebSocket(lambda _data: None, PageOrigins([], []), "elsewhere", little)
    return socket, client.connect().serialize()


def test_early_frames_are_more_than_a_browser_sends() -> None:
    socket, request = bare()
    assert list(socket.receive(request + frame_of(b"", Opcode.PONG) * EARLY_FRAMES)) == []
    with pytest.raises(RemoteError, match="expected HELLO"):
        list(socket.receive(frame_of(b"", Opcode.PONG)))


# Hostile bytes.

PIECES = st.one_of(
    st.binary(max_size=40).map(lambda data: frame_of(data)),
    st.binary(max_size=40).map(lambda data: frame_of(data, fin=False)),
    st.binary(max_size=40).map(lambda data: frame_of(data, Opcode.CONT)),
    st.binary(max_size=20).map(lambda data: frame_of(data, Opcode.PING)),
    st.just(frame_of(PAYLOAD)),
    st.just(frame_of(frame_bytes())),
    st.just(frame_of(b"\x03\xe8", Opcode.CLOSE)),
    st.binary(max_size=30),
)


@pytest.mark.promise("hostile-connections")
@settings(max_examples=80, deadline=None)
@given(st.lists(PIECES, max_size=8), st.integers(1, 100), st.integers(0, 30), st.binary(max_size=3))
def test_hostile_bytes_end_in_a_known_error_or_in_none(
    pieces: list[bytes], step: int, at: int, patch: bytes
) -> None:
    """Whatever comes, in whatever pieces: nothing is raised, nothing is written after the end, and
    a refused connection holds nothing more."""
    page = Page(opens=False)
    data = bytearray(page.request.serialize() + b"".join(pieces))
    data[at : at + len(patch)] = patch
    for start in range(0, len(data), step):
        page.receive(bytes(data[start : start + step]))
    page.connection.connection_lost(None)
    assert page.connection.session.state is State.CLOSED
    assert set(page.gateway.errors) <= {
        "not_understudy", "message_malformed", "message_empty", "message_too_long", "hello_first",
        "hello_twice", "welcome_first", "bad_hello", "message_truncated", "unknown_type",
        "bad_origin", "protocol_version",
    }  # fmt: skip


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_messages_arrive_whole_and_in_order_however_they_are_cut(
    payloads: list[bytes], step: int
) -> None:
    socket, request = bare()
    data = request + b"".join(frame_of(payload) for payload in payloads)
    found = []
    for start in range(0, len(data), step):
        found += socket.receive(data[start : start + step])
    assert found == payloads
    assert socket.partial == 0


# Whose pages may.


@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        ("127.0.0.1:7780", None, True),
        ("anything.example", None, True),
        ("127.0.0.1:7780", "http://127.0.0.1:8080", True),
        ("127.0.0.1:7780", "http://127.0.0.1", True),
        ("localhost:7780", "http://localhost:8080", True),
        ("[::1]:7780", "http://[::1]:8080", True),
        ("trainer.example", "https://trainer.example", True),
        ("127.0.0.1:7780", "https://trainer.example", True),
        ("127.0.0.1:7780", "https://allowed.example", True),
        ("127.0.0.1:7780", "HTTPS://Allowed.example", True),
        ("127.0.0.1:7780", "http://allowed.example", False),
        ("127.0.0.1:7780", "https://allowed.example:444", False),
        ("127.0.0.1:7780", "http://localhost:8080", False),
        ("192.168.1.5:7780", "http://192.168.1.6:8080", False),
        ("127.0.0.1:7780", "https://evil.example", False),
        ("evil.example:7780", "http://evil.example:7780", False),
        ("evil.example:7780", "http://localhost", False),
        ("127.0.0.1:7780", "null", False),
        ("127.0.0.1:7780", "http://127.0.0.1.evil.example", False),
        ("127.0.0.1:7780", "http://127.0.0.1@evil.example", False),
    ],
)
def test_pages_of_the_own_host_and_listed_origins_may_connect(
    host: str, origin: str | None, allowed: bool
) -> None:
    page = Page(Host=host, **({} if origin is None else {"Origin": origin}))
    if allowed:
        assert page.status == 101
    else:
        assert page.status == 403
        assert "bad_origin: " in page.text
        assert "add its origin to server.websocket_origins" in page.text
        assert page.gateway.errors == {"bad_origin": 1}


def test_two_origins_are_refused() -> None:
    origins = PageOrigins(["http://a"], [])
    assert origins.refusal(["127.0.0.1"], ["http://a", "http://a"]) is not None
    assert origins.refusal([], ["http://127.0.0.1"]) is not None


def test_framed_messages_are_what_a_session_expects() -> None:
    """The length that TCP has before a message is not sent here."""
    assert framed(PAYLOAD) == HELLO
    assert FIELDS.slots == 2
