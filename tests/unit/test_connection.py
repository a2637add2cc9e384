from __future__ import annotations

from typing import Any

import msgspec
import pytest

from protocol.errors import RemoteError
from protocol.messages import Error, Pong, Welcome, WelcomeFields
from server.gateway.connection import GOODBYE_S, WRITE_HIGH_BYTES
from tests.support.connection import HELLO, Wire


def frame(slot: int = 0, seq: int = 0, obs: bytes = bytes(12)) -> bytes:
    body = msgspec.msgpack.encode([2, slot, seq, obs, 0.0, 0, None, None])
    return len(body).to_bytes(4, "big") + body


def ping(nonce: Any = 1) -> bytes:
    body = msgspec.msgpack.encode([4, nonce])
    return len(body).to_bytes(4, "big") + body


BYE = b"\x00\x00\x00\x02\x91\x05"


# The handshake.


def test_hello_reaches_gateway_and_welcome_reaches_client() -> None:
    wire = Wire()
    assert not wire.connection.waits_for_welcome
    wire.receive(HELLO)
    assert wire.gateway.hellos == [wire.connection]
    assert wire.connection.waits_for_welcome
    fields = WelcomeFields(session=5, protocol=1, server="s/1", settings={"level": 3})
    wire.welcome(fields, [7, 8])
    assert wire.messages() == [Welcome(fields)]
    assert wire.connection.number == 5
    assert wire.connection.rows.tolist() == [7, 8]
    assert not wire.connection.waits_for_welcome


def test_hello_before_handshake_timeout_is_accepted() -> None:
    wire = Wire()
    wire.check_after(9.9)
    assert wire.code is None
    wire.receive(HELLO)
    assert wire.connection.waits_for_welcome


def test_no_bytes_before_handshake_timeout_closes_with_error() -> None:
    wire = Wire()
    wire.check_after(10.1)
    assert wire.code == "handshake_timeout"
    assert wire.error is not None
    assert wire.error.retry
    assert "0 bytes" in wire.error.message
    assert wire.gateway.errors == {"handshake_timeout": 1}


def test_trickled_hello_bytes_do_not_extend_handshake_timeout() -> None:
    wire = Wire()
    for byte in HELLO[:25]:
        wire.receive(bytes([byte]))
        wire.check_after(0.4)
    assert wire.code is None
    wire.check_after(0.4)
    assert wire.code == "handshake_timeout"
    assert wire.error is not None
    assert f"got 25 of the {len(HELLO)} bytes" in wire.error.message
    assert "count itself" not in wire.error.message


def test_hello_length_counting_itself_is_named_in_timeout_error() -> None:
    wire = Wire()
    wire.receive(len(HELLO).to_bytes(4, "big") + HELLO[4:])
    wire.check_after(10.1)
    assert wire.code == "handshake_timeout"
    assert wire.error is not None
    assert f"got {len(HELLO)} of the {len(HELLO) + 4} bytes" in wire.error.message
    assert "the length must not count itself" in wire.error.message


def test_waiting_for_welcome_has_no_timeout_until_welcome() -> None:
    wire = Wire()
    wire.receive(HELLO)
    for _ in range(100):
        wire.check_after(100.0)
    assert wire.messages() == []
    # The idle clock starts with WELCOME.
    fields = WelcomeFields(session=5, protocol=1, server="s/1", settings={})
    wire.welcome(fields, [0, 1])
    wire.check_after(59.0)
    assert wire.code is None
    wire.check_after(2.0)
    assert wire.code == "idle_timeout"


def test_refused_connection_gets_error_and_later_hello_is_ignored() -> None:
    wire = Wire(RemoteError("too_many_clients", "come back later", retry=True))
    assert wire.messages() == [Error("too_many_clients", "come back later", True)]
    assert wire.gateway.errors == {"too_many_clients": 1}
    assert wire.transport.half_closed
    wire.receive(HELLO)
    assert wire.gateway.hellos == []


# Playing.


def test_frames_received_are_added_to_turn() -> None:
    wire = Wire().playing()
    wire.receive(frame(0) + frame(1))
    assert [one.slot for one in wire.gateway.frame_loop.frames] == [0, 1]
    assert wire.gateway.turns >= 1


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_messages_split_or_concatenated_are_parsed_equally(size: int) -> None:
    wire = Wire().playing()
    data = frame(0) + ping("a") + frame(1) + ping("b")
    for start in range(0, len(data), size):
        wire.receive(data[start : start + size])
    assert [one.slot for one in wire.gateway.frame_loop.frames] == [0, 1]
    assert wire.messages() == [Pong("a"), Pong("b")]


@pytest.mark.parametrize("nonce", [None, 5, "x", b"\x00\xff", [1, [2.5]], {"a": 1}])
def test_ping_gets_pong_with_same_nonce(nonce: Any) -> None:
    wire = Wire().playing()
    wire.receive(ping(nonce))
    assert wire.messages() == [Pong(nonce)]


def test_ping_before_welcome_gets_pong() -> None:
    wire = Wire()
    wire.receive(HELLO + ping(9))
    assert wire.messages() == [Pong(9)]


def test_slot_after_answer_accepts_next_frame() -> None:
    wire = Wire().playing()
    wire.receive(frame(0))
    wire.connection.answered(0)
    wire.receive(frame(0, 1))
    assert len(wire.gateway.frame_loop.frames) == 2


@pytest.mark.promise("game-silent")
def test_no_message_within_idle_timeout_closes_with_error() -> None:
    wire = Wire().playing()
    wire.check_after(59.0)
    wire.receive(ping())
    wire.check_after(59.0)
    assert wire.code is None
    wire.check_after(2.0)
    assert wire.code == "idle_timeout"
    assert wire.error is not None
    assert wire.error.retry


# Errors, and how they end.


def playing_after_receiving(data: bytes) -> Wire:
    wire = Wire().playing()
    wire.receive(data)
    return wire


def test_error_is_sent_counted_and_write_side_closed() -> None:
    wire = playing_after_receiving(frame(slot=5))
    assert wire.code == "unknown_slot"
    assert wire.gateway.errors == {"unknown_slot": 1}
    assert wire.transport.half_closed
    assert not wire.transport.aborted
    assert wire.transport.reading, "what the client still sends must be read, or it is a reset"


def test_failed_connection_logs_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    wire = playing_after_receiving(frame(slot=5))
    wire.receive(frame(slot=6))
    wire.connection.eof_received()
    wire.connection.connection_lost(None)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == 1
    assert lines[0].startswith("10.0.0.1:1234: unknown_slot: ")
    assert wire.gateway.errors == {"unknown_slot": 1}


def test_messages_after_invalid_one_are_ignored() -> None:
    wire = playing_after_receiving(ping(1) + frame(slot=5) + ping(2) + frame(0))
    assert [type(message) for message in wire.messages()] == [Pong, Error]
    assert wire.gateway.frame_loop.frames == []


def test_bytes_received_after_error_are_discarded() -> None:
    wire = playing_after_receiving(frame(slot=5))
    wire.receive(b"\xff" * 100_000)
    wire.receive(HELLO + ping())
    assert [type(message) for message in wire.messages()] == [Error]
    assert wire.gateway.errors == {"unknown_slot": 1}


def test_peer_not_closing_after_error_is_aborted_after_goodbye_timeout() -> None:
    wire = playing_after_receiving(frame(slot=5))
    wire.check_after(GOODBYE_S - 0.1)
    assert not wire.transport.aborted
    wire.receive(ping())
    wire.check_after(0.2)
    assert wire.transport.aborted


def test_answers_after_failure_are_not_sent() -> None:
    wire = Wire().playing()
    wire.receive(frame(0))
    wire.receive(frame(slot=5))
    sent = bytes(wire.transport.sent)
    wire.connection.answered(0)
    wire.connection.send(b"answer")
    assert bytes(wire.transport.sent) == sent


def test_second_failure_is_neither_sent_nor_counted() -> None:
    wire = playing_after_receiving(frame(slot=5))
    wire.connection.fail(RemoteError("server_stopping", "later"))
    assert wire.code == "unknown_slot"
    assert wire.gateway.errors == {"unknown_slot": 1}


def test_server_stopping_is_logged_as_info_not_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="gateway"):
        Wire().playing().connection.fail(RemoteError("server_stopping", "later"))
        Wire().playing().connection.fail(RemoteError("idle_timeout", "silent"))
    said = [(each.levelname, each.message.split(": ")[1]) for each in caplog.records]
    assert ("INFO", "server_stopping") in said
    assert ("WARNING", "idle_timeout") in said


def test_bye_closes_connection_without_error() -> None:
    wire = playing_after_receiving(BYE)
    assert wire.messages() == []
    assert wire.gateway.errors == {}
    assert wire.transport.half_closed
    wire.connection.eof_received()
    wire.connection.connection_lost(None)
    assert wire.gateway.errors == {}
    assert wire.gateway.gone == [wire.connection]


def test_bytes_after_bye_are_ignored() -> None:
    wire = playing_after_receiving(BYE + frame(0) + b"\xff\xff")
    assert wire.messages() == []
    assert wire.gateway.frame_loop.frames == []


def test_eof_between_messages_is_not_an_error() -> None:
    wire = Wire().playing()
    assert wire.connection.eof_received() is False
    wire.connection.connection_lost(None)
    assert wire.gateway.errors == {}
    assert wire.gateway.gone == [wire.connection]


def test_eof_within_message_sends_message_truncated() -> None:
    wire = Wire().playing()
    wire.receive(frame(0)[:-1])
    assert wire.connection.eof_received() is False
    assert wire.code == "message_truncated"
    wire.connection.connection_lost(None)
    assert wire.gateway.errors == {"message_truncated": 1}


@pytest.mark.parametrize("data", [HELLO[:3], HELLO[:-1]])
def test_connection_lost_within_hello_counts_message_truncated(data: bytes) -> None:
    wire = Wire()
    wire.receive(data)
    wire.connection.connection_lost(ConnectionResetError())
    assert wire.gateway.errors == {"message_truncated": 1}
    assert wire.gateway.gone == [wire.connection]


def test_lost_connection_sends_nothing_and_counts_no_error() -> None:
    wire = Wire().playing()
    wire.receive(frame(0))
    wire.connection.connection_lost(None)
    wire.connection.answered(0)
    wire.connection.send(b"answer")
    wire.connection.fail(RemoteError("server_stopping", "later"))
    wire.check_after(1000.0)
    assert not wire.transport.sent
    assert wire.gateway.errors == {}


# Slow readers and pauses.


def test_client_not_reading_pauses_reads_and_ends_as_slow_reader() -> None:
    wire = Wire().playing()
    assert wire.transport.high == WRITE_HIGH_BYTES
    wire.connection.pause_writing()
    assert not wire.transport.reading
    wire.check_after(29.0)
    assert wire.code is None
    wire.check_after(2.0)
    assert wire.code == "slow_reader"
    assert wire.error is not None
    assert wire.error.retry
    assert wire.transport.reading, "the goodbye is read away"
    wire.connection.resume_writing()
    wire.check_after(GOODBYE_S + 0.1)
    assert wire.transport.aborted


def test_client_reading_again_before_write_timeout_continues() -> None:
    wire = Wire().playing()
    wire.connection.pause_writing()
    wire.check_after(29.0)
    wire.connection.resume_writing()
    assert wire.transport.reading
    wire.check_after(29.0)
    wire.connection.pause_writing()
    wire.check_after(29.0)
    assert wire.code is None


def test_full_ring_pauses_reading_and_idle_timeout() -> None:
    wire = Wire().playing()
    wire.check_after(50.0)
    wire.connection.ring_full(True)
    assert not wire.transport.reading
    for _ in range(10):
        wire.check_after(100.0)
    assert wire.code is None
    wire.connection.ring_full(False)
    assert wire.transport.reading
    wire.check_after(5.0)
    assert wire.code is None
    # 50 s before the pause and 11 s behind it.
    wire.check_after(6.0)
    assert wire.code == "idle_timeout"


def test_many_short_pauses_do_not_extend_idle_timeout() -> None:
    wire = Wire().playing()
    for _ in range(60):
        wire.connection.ring_full(True)
        wire.check_after(0.001)
        wire.connection.ring_full(False)
        wire.check_after(1.1)
    assert wire.code == "idle_timeout"


def test_full_ring_pauses_handshake_timeout() -> None:
    wire = Wire()
    wire.check_after(6.0)
    wire.connection.ring_full(True)
    wire.check_after(100.0)
    wire.connection.ring_full(False)
    wire.check_after(3.0)
    assert wire.code is None
    wire.check_after(2.0)
    assert wire.code == "handshake_timeout"


def test_reading_resumes_only_after_both_pause_reasons_clear() -> None:
    wire = Wire().playing()
    wire.connection.ring_full(True)
    wire.connection.pause_writing()
    wire.connection.ring_full(False)
    assert not wire.transport.reading
    wire.connection.resume_writing()
    assert wire.transport.reading


@pytest.mark.parametrize(
    ("hello", "waits"),
    [
        ({}, True),
        ({"realtime": False}, True),
        ({"realtime": True}, False),
        ({"role": "eval"}, False),
        ({"role": "eval_expert"}, False),
    ],
)
def test_only_games_in_lock_step_wait_for_the_trainer(hello: dict[str, Any], waits: bool) -> None:
    wire = Wire().playing(**hello)
    assert wire.gateway.playing == [wire.connection]
    wire.connection.hold(True)
    assert wire.transport.reading is not waits
    if waits:  # and meet no deadline
        for _ in range(10):
            wire.check_after(100.0)
        assert wire.code is None
    wire.connection.ring_full(True)
    wire.connection.ring_full(False)
    assert wire.transport.reading is not waits, "one reason less is not none"
    wire.connection.hold(False)
    assert wire.transport.reading


def test_connection_that_waits_for_its_welcome_does_not_wait_for_the_trainer() -> None:
    wire = Wire()
    wire.connection.hold(True)
    assert wire.transport.reading


def test_game_that_waits_for_the_trainer_hears_that_the_server_stops() -> None:
    wire = Wire().playing()
    wire.connection.hold(True)
    wire.connection.fail(RemoteError("server_stopping", "later", retry=True))
    assert wire.transport.reading
    assert wire.code == "server_stopping"


def test_full_ring_does_not_pause_write_timeout() -> None:
    wire = Wire().playing()
    wire.connection.ring_full(True)
    wire.connection.pause_writing()
    wire.check_after(31.0)
    assert wire.code == "slow_reader"


@pytest.mark.parametrize("pause", [True, False])
def test_failed_connection_keeps_reading_while_ring_is_full(pause: bool) -> None:
    wire = Wire().playing()
    if pause:
        wire.connection.ring_full(True)
    wire.connection.fail(RemoteError("server_stopping", "later", retry=True))
    assert wire.transport.reading
    wire.connection.ring_full(True)
    assert wire.transport.reading
    wire.connection.ring_full(False)
    assert wire.transport.reading


# What arrives that is not understudy. (Everything else that a session refuses: test_session.py.)

FOREIGN: list[tuple[bytes, str]] = [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "not_understudy"),
    (b"\x16\x03\x01\x02\x00\x01\x00", "not_understudy"),
    (b"\x00\x00\x00\x00", "message_empty"),
    (b"\x7f\xff\xff\xff", "message_too_long"),
    (b"\x00\x00\x00\x01\xc1", "message_malformed"),
    (frame(), "hello_first"),
]


@pytest.mark.parametrize(("data", "code"), FOREIGN)
@pytest.mark.parametrize("split", [False, True])
def test_foreign_bytes_close_with_matching_error_code(data: bytes, code: str, split: bool) -> None:
    wire = Wire()
    for piece in [data[i : i + 1] for i in range(len(data))] if split else [data]:
        wire.receive(piece)
    assert wire.code == code
    assert wire.gateway.errors == {code: 1}


def test_oversized_length_is_refused_before_body_arrives() -> None:
    wire = Wire().playing()
    wire.receive((2049).to_bytes(4, "big"))
    assert wire.code == "message_too_long"
