"""The older format: what its bytes are, and that it is all the same how they arrive."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol import codec
from protocol.errors import LocalError, RemoteError
from protocol.messages import HelloFields
from protocol.session import ServerSession, State
from protocol.spaces import Continuous, Discrete
from protocol.tempest import (
    AHEAD_BYTES,
    HEADER,
    LEAD,
    LEVELS,
    Replies,
    TempestFrame,
    TempestSession,
    header_fields,
    tempest_spec,
)
from protocol.tempest_headers import HEADERS, Header, Phase, recognized
from server.gateway.tempest_expert import knob
from tests.support.tempest_client import HEADER as PLAIN
from tests.support.tempest_client import HOSTILE, OLD_HEADER, VALUES, framed, old_payload, payload

ROOT = Path(__file__).parents[2]


def playing_session(values: list[float] | None = None) -> TempestSession:
    """A session whose first frame has been answered."""
    session = TempestSession("continuous")
    hello, *_ = session.receive(LEAD + framed(payload(values or VALUES)))
    assert isinstance(hello, HelloFields)
    session.welcomed()
    (frame,) = session.receive(b"")
    assert isinstance(frame, TempestFrame)
    session.answered()
    return session


def receive_one(session: TempestSession, data: bytes) -> TempestFrame:
    (frame,) = session.receive(data)
    assert isinstance(frame, TempestFrame)
    return frame


def test_tempest_header_fields_match_struct_format() -> None:
    """Field by field, against the format as `struct` has it."""
    assert HEADER.itemsize == PLAIN.size == 39
    numbers = (195, -0.5, 1e6, 4, 128, 1, 65535, 2**32 - 1, 1, 1, 0, -300, -32768, 15, 1, 1, 0, 98)
    data = np.frombuffer(PLAIN.pack(*numbers), np.uint8).reshape(1, -1)
    fields = header_fields(data)
    assert tuple(fields) == HEADER.names
    assert tuple(values[0] for values in fields.values()) == numbers


OLD_FRAME = bytes.fromhex(
    "0038"
    "0002 4059200000000000 3ff8000000000000 4059000000000000 04 80 00 0007 000003e8"
    "00 01 00 fff5 00 0003 02 00 01 00 09 3f000000 bf800000"
)
"""A frame of 2025-10-09, as `string.pack` of Lua makes it: two values, rewards 100.5, 1.5 and 100,
in play, frame 7, score 1000, told to fire and to turn by -11, no attract mode, enemy at 3, player
at 2, a ring, fires, level 9."""


def test_tempest_48_byte_header_is_recognized_and_decoded() -> None:
    session = TempestSession("continuous")
    (hello,) = session.receive(LEAD + OLD_FRAME)
    assert isinstance(hello, HelloFields)
    assert hello.rewards == ("total",)
    assert hello.observation[1] == (2,)
    session.welcomed()
    frame = receive_one(session, b"")
    assert np.frombuffer(frame.obs, "<f4").tolist() == [0.5, -1.0]
    assert frame.rewards == [100.5], "the total is what it learnt from"
    assert frame.told == (1, 0, -11)
    assert (frame.score, frame.level, frame.phase) == (1000, 9, Phase.PLAY)
    header = np.frombuffer(frame.header, np.uint8).reshape(1, -1)
    fields = {name: int(values[0]) for name, values in header_fields(header).items()}
    wanted = {"n": 2, "target": 3, "player": 2, "open": 0, "expert_fire": 1, "expert_zap": 0}
    assert fields | wanted == fields
    assert session.header is not None
    assert session.header.reply_bytes == 3


def test_tempest_first_frame_of_2025_has_732_bytes_and_171_values() -> None:
    data = old_payload([0.25] * 171, total=3.0)
    assert (len(data), OLD_HEADER.size) == (732, 48)
    session = TempestSession("continuous")
    (hello,) = session.receive(LEAD + framed(data))
    assert isinstance(hello, HelloFields)
    assert session.spec == tempest_spec(171, "continuous", ("total",))
    session.welcomed()
    assert receive_one(session, b"").rewards == [3.0]


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.form)
def test_tempest_header_is_recognized_for_any_number_of_values(header: Header) -> None:
    for n in (1, 2, 170, 171, 172, 173, 195, 9000):
        data = n.to_bytes(2, "big") + bytes(header.size - 2 + 4 * n)
        assert recognized(data) is header


def test_tempest_headers_differ_in_length() -> None:
    assert len({header.size for header in HEADERS}) == len(HEADERS)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (old_payload([0.0] * 3)[:2] + bytes(50), "got a length of 52|n = 3 in a frame of 52"),
        (old_payload([0.0] * 3) + bytes(4), "n = 3 in a frame of 64 bytes, which leaves 52"),
        (payload([0.0] * 3) + bytes(4), "n = 3 in a frame of 55 bytes, which leaves 43"),
        (bytes(46), "got a length of 46"),
    ],
)
def test_tempest_unknown_header_error_names_known_ones_and_what_to_do(
    data: bytes, words: str
) -> None:
    session = TempestSession("continuous")
    with pytest.raises(RemoteError, match=words) as caught:
        list(session.receive(LEAD + framed(data)))
    assert caught.value.code == "message_malformed"
    for known in ("39 bytes", "48 bytes", "64b666c", "docs/tempest.md", "update the client"):
        assert known in caught.value.message


@pytest.mark.parametrize(
    ("fields", "phase"),
    [
        ({}, Phase.PLAY),
        ({"state": 0x20}, Phase.PLAY),
        ({"state": 0x16}, Phase.LEVEL_SELECT),
        ({"state": 0x12}, Phase.HIGH_SCORE),
    ],
)
def test_tempest_phase_is_read_from_state_and_mode(fields: dict[str, int], phase: Phase) -> None:
    for make, attract in ((payload, {"mode": 0x40}), (old_payload, {"attract": 1})):
        session = TempestSession("continuous")
        list(session.receive(LEAD + framed(make(VALUES))))  # type: ignore[operator]
        session.welcomed()
        session.receive(b"")
        assert receive_one(session, b"").phase is Phase.PLAY
        session.answered()
        data = framed(make(VALUES, **fields))  # type: ignore[operator]
        assert receive_one(session, data).phase is phase
        session.answered()
        idle = framed(make(VALUES, **fields | attract))  # type: ignore[operator]
        wanted = Phase.ATTRACT if phase is Phase.PLAY else phase
        assert receive_one(session, idle).phase is wanted


def test_tempest_frame_at_the_port_of_the_protocol_is_told_the_tempest_port() -> None:
    for make in (payload, old_payload):
        session = ServerSession(max_message_bytes=1 << 20, older="such clients connect to port 99")
        with pytest.raises(RemoteError, match=r"tempest_ai.*connect to port 99") as caught:
            list(session.receive(LEAD + framed(make([0.5] * 171))))
        assert caught.value.code == "not_understudy"
    session = ServerSession(max_message_bytes=1 << 20)
    with pytest.raises(RemoteError) as caught:
        list(session.receive(LEAD + framed(bytes(200))))
    assert caught.value.code == "message_malformed", "other bytes are no such frame"


def test_hello_at_the_tempest_port_is_told_the_port_of_the_protocol() -> None:
    spec = tempest_spec(3, "levels")
    hello = codec.encode_hello(
        HelloFields(
            protocol=1,
            client="test",
            game=spec.game,
            observation=spec.observation,
            actions=spec.actions,
            rewards=spec.rewards,
        )
    )
    session = TempestSession("levels", "port 7777 (server.port)")
    with pytest.raises(
        RemoteError, match=r"HELLO.*connects to port 7777 \(server.port\)"
    ) as caught:
        list(session.receive(hello))
    assert caught.value.code == "not_understudy"


def test_tempest_first_frame_gives_hello_and_spec() -> None:
    session = TempestSession("continuous")
    assert session.state is State.AWAIT_HELLO
    (hello,) = session.receive(LEAD + framed(payload([0.5] * 171)))
    assert session.state is State.AWAIT_WELCOME
    assert isinstance(hello, HelloFields)
    assert hello.client == "tempest_ai"
    assert (hello.game, hello.slots, hello.role) == ("tempest", 1, "train")
    assert hello.rewards == ("objective", "subjective")
    assert hello.observation[1] == (171,)
    assert hello.actions == (
        Discrete("buttons", 4),
        Continuous("spinner", -0.9, 0.9, 1),
    )
    assert session.spec == tempest_spec(171, "continuous")


@pytest.mark.parametrize("values", [1, 171, 195, 16374])
def test_tempest_frame_with_any_number_of_values(values: int) -> None:
    session = playing_session([0.5] * values)
    frame = receive_one(session, framed(payload([-0.5] * values)))
    assert np.frombuffer(frame.obs, "<f4").tolist() == [-0.5] * values


def test_tempest_frame_fields_are_decoded() -> None:
    session = playing_session()
    data = payload(VALUES, subjective=-2.5, objective=300.0, zap=1, target=7, player=3)
    frame = receive_one(session, framed(data))
    assert np.frombuffer(frame.obs, "<f4").tolist() == VALUES
    assert frame.rewards == [300.0, -2.5]
    assert (frame.seq, frame.status, frame.first) == (1, 0, False)
    assert (frame.save, frame.expert_zaps) == (False, True)
    assert bytes(frame.header) == data[:39]
    session.answered()
    frame = receive_one(session, framed(payload(VALUES, done=1, save=1)))
    assert (frame.seq, frame.status, frame.first) == (2, 1, False)
    assert (frame.save, frame.expert_zaps) == (True, False)
    session.answered()
    assert receive_one(session, framed(payload(VALUES))).first


def test_tempest_frames_in_one_read_wait_for_previous_answer() -> None:
    session = playing_session()
    data = b"".join(framed(payload([k / 8] * 3)) for k in range(4))
    got = []
    rest = data
    while not got or got[-1] < 3 / 8:
        (frame,) = session.receive(rest)
        assert isinstance(frame, TempestFrame)
        got.append(float(np.frombuffer(frame.obs, "<f4")[0]))
        assert list(session.receive(b"")) == []
        assert not session.more
        session.answered()
        rest = b""
    assert got == [0.0, 0.125, 0.25, 0.375]
    assert not session.more
    assert session.partial == 0


def test_tempest_frame_in_own_read_waits_for_previous_answer() -> None:
    session = playing_session()
    frame = framed(payload(VALUES))
    assert receive_one(session, frame).seq == 1
    assert list(session.receive(frame)) == []
    session.answered()
    assert receive_one(session, b"").seq == 2


def test_tempest_session_ahead_of_answers_over_limit_sets_ahead() -> None:
    session = playing_session()
    frame = framed(payload(VALUES))
    receive_one(session, frame)
    count = AHEAD_BYTES // len(frame)
    assert list(session.receive(frame * count)) == []
    assert not session.ahead
    assert list(session.receive(frame)) == []
    assert session.ahead
    session.answered()
    assert session.more
    receive_one(session, b"")
    assert not session.ahead


def test_tempest_frames_before_welcome_are_held() -> None:
    session = TempestSession("levels")
    (hello,) = session.receive(LEAD + framed(payload(VALUES)) * 2)
    assert isinstance(hello, HelloFields)
    assert list(session.receive(b"")) == []
    session.welcomed()
    assert receive_one(session, b"").seq == 0
    session.answered()
    assert receive_one(session, b"").seq == 1


def test_tempest_documentation_example_equals_encoded_bytes() -> None:
    """Byte by byte: what it says that the bytes are is what they are."""
    text = (ROOT / "docs/tempest.md").read_text()
    _, block, *_ = re.split(r"```\n", text[text.index("A frame of two values") :])
    parts = block.split("\n\n")
    data, reply = (
        bytes.fromhex("".join(re.findall(r"(?<!\S)[0-9a-f]{2}(?!\S)", p))) for p in parts
    )
    session = TempestSession("continuous")
    _hello = list(session.receive(LEAD + data))
    session.welcomed()
    frame = receive_one(session, b"")
    assert np.frombuffer(frame.obs, "<f4").tolist() == [0.5, -1.0]
    assert frame.rewards == [100.0, -2.0]
    header = np.frombuffer(frame.header, np.uint8).reshape(1, -1)
    fields = {name: int(values[0]) for name, values in header_fields(header).items()}
    wanted = {"n": 2, "game_state": 4, "frame": 7, "score": 1000, "target": 3, "player": 2,
              "expert_fire": 1, "expert_zap": 0, "level": 9}  # fmt: skip
    assert fields | wanted == fields
    turn = knob(np.array([3]), np.array([2]), np.array([False]))[0]
    replies = Replies(5, "continuous", advanced=True, level=13)
    assert replies.encode((2, float(turn))) == reply


def test_tempest_answered_or_welcomed_twice_raises_local_error() -> None:
    session = playing_session()
    with pytest.raises(LocalError, match="twice"):
        session.answered()
    with pytest.raises(LocalError, match="welcome"):
        session.welcomed()


def test_tempest_frames_after_failure_are_ignored() -> None:
    session = playing_session()
    session.failed()
    assert list(session.receive(framed(payload(VALUES)))) == []
    session.ended()


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("glued", [False, True], ids=["alone", "behind a good frame"])
def test_tempest_invalid_frame_raises_error_code_and_text(what: str, *, glued: bool) -> None:
    data, code, words = HOSTILE[what]
    session = playing_session()
    if glued:
        assert receive_one(session, framed(payload(VALUES)) + data).seq == 1
        session.answered()
        data = b""
    with pytest.raises(RemoteError, match=words) as caught:
        list(session.receive(data))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\n", "not_understudy"),
        (b"\x00\x01", "not_understudy"),
        (LEAD + b"\x00\x00", "message_empty"),
        (LEAD + struct.pack(">H", 39) + bytes(39), "message_malformed"),
        (LEAD + struct.pack(">H", 44) + bytes(44), "message_malformed"),
        (LEAD + framed(payload(VALUES, n=2)), "message_malformed"),
        # The protocol's HELLO, of a length that an older client's frame may have, and of another.
        (LEAD + struct.pack(">H", 300) + b"\x92\x01\x81", "not_understudy"),
        (LEAD + struct.pack(">H", 11) + b"\x92\x01\x81", "not_understudy"),
    ],
)
def test_tempest_invalid_first_bytes_raise_error_code(data: bytes, code: str) -> None:
    """With its first bytes, and however they are split."""
    for cut in range(len(data)):
        session = TempestSession("continuous")
        with pytest.raises(RemoteError) as caught:  # noqa: PT012
            for piece in (data[:cut], data[cut:]):
                for message in session.receive(piece):
                    if isinstance(message, HelloFields):
                        session.welcomed()
        assert caught.value.code == code


def test_tempest_invalid_length_is_refused_before_payload() -> None:
    session = playing_session()
    with pytest.raises(RemoteError, match="65535"):
        list(session.receive(b"\xff\xff"))


def test_tempest_stream_ended_inside_frame_raises_truncated() -> None:
    data = framed(payload(VALUES))
    for cut in range(1, len(data)):
        session = playing_session()
        assert list(session.receive(data[:cut])) == []
        with pytest.raises(RemoteError, match="end of the connection") as caught:
            session.ended()
        assert caught.value.code == "message_truncated"
    playing_session().ended()


@pytest.mark.parametrize(
    ("action", "reply"),
    [
        ((0, 0.0), (0, 0, 0)),
        ((1, 0.9), (0, 1, 29)),
        ((2, -0.9), (1, 0, -29)),
        ((3, 0.35), (1, 1, 11)),
        ((3, -0.0156), (1, 1, 0)),
        (None, (0, 0, 0)),
    ],
)
def test_tempest_reply_with_continuous_spinner_encodes_action(
    action: Any, reply: tuple[int, ...]
) -> None:
    long = Replies(5, "continuous", advanced=True, level=13)
    short = Replies(3, "continuous", advanced=True, level=13)
    assert struct.unpack("bbbBB", long.encode(action)) == (*reply, 1, 13)
    assert struct.unpack("bbb", short.encode(action)) == reply


def test_tempest_reply_with_spinner_levels_encodes_action() -> None:
    replies = Replies(5, "levels", advanced=False, level=81)
    assert sorted(LEVELS) == [-12, -9, -6, -3, -1, 0, 1, 3, 6, 9, 12]
    for choice, level in enumerate(LEVELS):
        assert struct.unpack("bbbBB", replies.encode((2, choice))) == (1, 0, level, 0, 81)
    assert replies.zeros == bytes([0, 0, 0, 0, 81])
    assert tempest_spec(3, "levels").actions[1] == Discrete("spinner", 11)
