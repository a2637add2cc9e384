from __future__ import annotations

import inspect
import math
import re
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import actor, checks, codec, framing, session, spaces, streams
from protocol.errors import CODES, LocalError, RemoteError
from protocol.messages import Bye, Frame, Frames, HelloFields, Ping
from protocol.session import MAX_SLOTS, TRANSITIONS, ServerSession, State, diagram
from protocol.streams import stream_number
from tests.support.cases import for_each

OBS = np.array([0.5, -1.0, 2.0], np.float32).tobytes()
FIELDS: dict[str, Any] = {
    "protocol": 1,
    "client": "test/1",
    "game": "g",
    "observation": ["float32", [3]],
    "actions": [["discrete", "fire", 2], ["continuous", "aim", -1.0, 1.0, 1]],
    "slots": 2,
}
NAN = math.nan
MAX_BYTES = 1_048_576


def pack(*elements: Any) -> bytes:
    return framing.framed(msgspec.msgpack.encode(elements))


def hello(**fields: Any) -> bytes:
    return pack(1, FIELDS | fields)


def frame(seq: int = 0, slot: int = 0, **fields: Any) -> bytes:
    all_fields = {"obs": OBS, "reward": 0.0, "status": 0, "expert": None, "took": None} | fields
    return pack(2, slot, seq, *all_fields.values())


def f32(*values: float) -> bytes:
    return np.array(values, np.float32).tobytes()


def frames(seq: int = 0, **fields: Any) -> bytes:
    all_fields = {
        "obs": OBS * 2,
        "rewards": f32(0, 0),
        "statuses": bytes(2),
        "experts": None,
        "took": None,
    } | fields
    return pack(3, seq, *all_fields.values())


def new_session(**options: Any) -> ServerSession:
    return ServerSession(**{"max_message_bytes": MAX_BYTES} | options)


def playing_session(**fields: Any) -> ServerSession:
    out = new_session()
    list(out.receive(hello(**fields)))
    out.welcomed()
    return out


def receive_and_answer(out: ServerSession, *sent: bytes) -> list[Any]:
    """Feed messages and answer each at once."""
    got = []
    for data in sent:
        for message in out.receive(data):
            got.append(message)
            if isinstance(message, Frame):
                out.answered(message.slot)
            elif isinstance(message, Frames):
                out.answered_all()
    return got


def remote_error(out: ServerSession, data: bytes) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        list(out.receive(data))
    return caught.value


# Which message is allowed when. Written out once more, whole, so that a transition that is added
# to or removed from the table is seen.

EVENTS = ("HELLO", "FRAME", "FRAMES", "PING", "BYE", "welcome", "error")
HELLO, WELCOME, PLAYING, CLOSED = State
IGNORED = "ignored"
LOCAL_ERROR = "a bug of ours"
EXPECTED: dict[State, tuple[State | str, ...]] = {
    HELLO: (WELCOME, *["hello_first"] * 4, LOCAL_ERROR, CLOSED),
    WELCOME: ("hello_twice", "welcome_first", "welcome_first", WELCOME, CLOSED, PLAYING, CLOSED),
    PLAYING: ("hello_twice", PLAYING, PLAYING, PLAYING, CLOSED, LOCAL_ERROR, CLOSED),
    CLOSED: (*[IGNORED] * 5, LOCAL_ERROR, CLOSED),
}
SENT = {
    "HELLO": hello(),
    "FRAME": frame(),
    "FRAMES": frames(),
    "PING": pack(4, 1),
    "BYE": pack(5),
}
MESSAGE_CLASSES = {"HELLO": HelloFields, "FRAME": Frame, "FRAMES": Frames, "PING": Ping, "BYE": Bye}


def session_in_state(state: State) -> ServerSession:
    out = new_session()
    if state is not HELLO:
        list(out.receive(hello()))
    if state is PLAYING:
        out.welcomed()
    if state is CLOSED:
        out.failed()
    assert out.state is state
    return out


@for_each(State, EVENTS)
def test_event_in_state_gives_expected_state_or_error(state: State, event: str) -> None:
    expected = EXPECTED[state][EVENTS.index(event)]
    out = session_in_state(state)
    if expected is LOCAL_ERROR:
        with pytest.raises(LocalError, match=f"welcome in state '{state.value}'"):
            out.welcomed()
    elif event == "welcome":
        out.welcomed()
    elif event == "error":
        out.failed()
    elif expected is IGNORED:
        assert list(out.receive(SENT[event])) == []
        expected = state
    elif isinstance(expected, str):
        error = remote_error(out, SENT[event])
        assert error.code == expected
        allowed = [name for name in TRANSITIONS[state] if name.isupper()]
        assert error.message == (
            f"in state {state.value!r} expected {' or '.join(allowed)}, got {event}"
        )
    else:
        [message] = out.receive(SENT[event])
        assert type(message) is MESSAGE_CLASSES[event]
    if isinstance(expected, State):
        assert out.state is expected


def test_transition_table_equals_expected_table() -> None:
    assert list(TRANSITIONS) == list(State)
    for state, events in TRANSITIONS.items():
        expected = {
            event: after
            for event, after in zip(EVENTS, EXPECTED[state], strict=True)
            if isinstance(after, State) and state is not CLOSED
        }
        assert events == expected


@pytest.mark.parametrize(
    ("state", "event"),
    [(state, event) for state, events in TRANSITIONS.items() for event in events],
)
def test_event_removed_from_transition_table_is_refused(
    state: State, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table alone decides: each of its lines is used."""
    if event == "error":
        return  # nothing may keep a session from ending
    out = session_in_state(state)
    rest = {other: after for other, after in TRANSITIONS[state].items() if other != event}
    monkeypatch.setitem(TRANSITIONS, state, rest)
    if event == "welcome":
        with pytest.raises(LocalError):
            out.welcomed()
    elif (state, event) == (PLAYING, "FRAME"):
        # The frame path does not look the table up: in this state a frame is always allowed.
        assert list(out.receive(SENT[event]))
    else:
        remote_error(out, SENT[event])


def test_diagram_contains_every_transition_once() -> None:
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    drawn = [re.fullmatch(r" +(\w+) --> (\w+): (.+)", line) for line in lines[2:-1]]
    arrows = [
        (match[1], event, match[2]) for match in drawn if match for event in match[3].split(", ")
    ]
    assert sorted(arrows) == sorted(
        (state.name, event, after.name)
        for state, events in TRANSITIONS.items()
        for event, after in events.items()
    )


# Every code that a session can raise: what came before, what is wrong, and what is said.

TWO = {"rewards": ["score", "lives"]}
EXPERT = {"role": "eval_expert"}
REFUSALS: list[tuple[str, ServerSession, list[bytes], bytes, str]] = [
    ("not_understudy", new_session(), [], b"GET / HTTP/1.1\r\n", "expected .*HELLO, got .*HTTP"),
    (
        "message_too_long",
        playing_session(),
        [],
        b"\x7f\0\0\0",
        r"at most 1048576 bytes, got .* 2130706432",
    ),
    ("message_empty", playing_session(), [], bytes(4), "at least 1 byte, got a length of 0"),
    (
        "message_malformed",
        playing_session(),
        [],
        pack(2, 0),
        "FRAME: expected .* 8 elements, got 2",
    ),
    ("unknown_type", playing_session(), [], pack(99), "expected .*1 HELLO.*; got 99"),
    ("hello_first", new_session(), [], pack(4, 1), "expected HELLO, got PING"),
    ("hello_twice", playing_session(), [], hello(), "expected FRAME or .*, got HELLO"),
    ("protocol_version", new_session(), [], hello(protocol=2), "expected protocol 1, got 2;"),
    (
        "bad_token",
        new_session(token="secret"),
        [],
        hello(),
        r"expected .* token, got none; .*--token-file.*token=\.\.\.",
    ),
    ("bad_hello", new_session(), [], hello(slots=0), "slots: expected 1 to 4096, got 0"),
    ("welcome_first", session_in_state(WELCOME), [], frame(), "expected PING or BYE, got FRAME"),
    ("unknown_slot", playing_session(), [], frame(slot=2), "expected a slot from 0 to 1, got 2"),
    ("seq_out_of_order", playing_session(), [frame()], frame(2), "slot 0: expected seq 1, got 2"),
    (
        "frame_before_answer",
        playing_session(),
        [frame()],
        frame(0, 1) + frame(1, 1),
        "slot 1: expected no frame before .*, got seq 1",
    ),
    (
        "mixed_frames",
        playing_session(),
        [frame()],
        frames(),
        "expected FRAME or FRAMES .*, got both",
    ),
    (
        "observation_size",
        playing_session(),
        [],
        frame(obs=OBS[1:]),
        r"expected float32 \[3\] \(12 bytes\), got 11 bytes",
    ),
    (
        "reward_shape",
        playing_session(**TWO),
        [],
        frame(reward=1.0),
        r"expected 2 rewards \(score, lives\), got one number",
    ),
    ("reward_not_finite", playing_session(), [], frame(reward=NAN), "expected rewards .*, got nan"),
    ("unknown_status", playing_session(), [], frame(status=3), "expected status 0 .*, got 3"),
    (
        "action_shape",
        playing_session(),
        [],
        frames(experts=f32(0, 0, 0)),
        r"expected 2 x 2 float32 \(16 bytes\), got 12 bytes",
    ),
    (
        "action_out_of_range",
        playing_session(),
        [],
        frames(experts=f32(0, 0, 1, -1.5)),
        "'aim': expected -1.0 to 1.0, got -1.5",
    ),
    (
        "took_on_first_frame",
        playing_session(),
        [],
        frame(took=[[0, 0.0], 1]),
        "slot 0: expected no `took` on the first frame .*, got one",
    ),
    (
        "unknown_actor",
        playing_session(),
        [frame()],
        frame(1, took=[[0, 0.0], 3]),
        r"expected an actor, 1 \(dqn\) or 2 \(expert\), got 3",
    ),
    (
        "expert_missing",
        playing_session(**EXPERT),
        [frame()],
        frame(1, status=1),
        "expected a recommendation in each episode, got an episode without any",
    ),
]


@pytest.mark.parametrize(
    ("code", "out", "before", "data", "says"), REFUSALS, ids=[case[0] for case in REFUSALS]
)
def test_invalid_message_raises_error_code_and_text(
    code: str, out: ServerSession, before: list[bytes], data: bytes, says: str
) -> None:
    receive_and_answer(out, *before)
    error = remote_error(out, data)
    assert error.code == code
    assert re.search(says, error.message), error.message
    assert not error.retry


def test_stream_ended_inside_message_raises_message_truncated() -> None:
    out = playing_session()
    list(out.receive(frame()[:7]))
    assert out.partial == 7
    with pytest.raises(
        RemoteError, match=r"expected the rest .*, got .* after 7 of the \d+ bytes of"
    ) as caught:
        out.ended()
    assert caught.value.code == "message_truncated"


def test_refusal_cases_cover_every_error_code() -> None:
    sources = "".join(map(inspect.getsource, (session, checks, codec, framing, spaces, actor)))
    raised = set(re.findall(r'"(\w+)"', sources)) & set(CODES)
    assert raised == {case[0] for case in REFUSALS} | {"message_truncated"}


@pytest.mark.parametrize(
    ("code", "fields", "sent", "says"),
    [
        ("observation_size", {}, {"obs": OBS}, r"2 x float32 \[3\] \(24 bytes\), got 12 bytes"),
        ("reward_shape", TWO, {}, "expected 2 rewards .*got 8 bytes instead of 16"),
        ("reward_shape", {}, {"rewards": b""}, "expected 1 rewards .*got 0 bytes"),
        ("reward_not_finite", {}, {"rewards": f32(0, NAN)}, "^slot 1: .*got nan"),
        ("reward_not_finite", {}, {"rewards": f32(-math.inf, 0)}, "^slot 0: .*got -inf"),
        ("reward_not_finite", TWO, {"rewards": f32(0, 0, 0, NAN)}, "^slot 1: .*got nan"),
        ("unknown_status", {}, {"statuses": bytes([0, 3])}, "^slot 1: expected status 0 .*, got 3"),
        ("unknown_status", {}, {"statuses": b""}, "expected 2 statuses, got 0"),
        ("took_on_first_frame", {}, {"took": [f32(0, 0, 0, 0), b"\1\0"]}, "slot 0: expected no"),
        ("unknown_actor", {}, {"took": [f32(0, 0, 0, 0), b""]}, "expected 2 actors, got 0"),
        (
            "unknown_actor",
            {},
            {"took": [f32(0, 0, 0, 0), b"\0\3"]},
            "slot 1: expected an actor.* got 3",
        ),
        ("action_out_of_range", {}, {"experts": f32(0, 0, 9, 0)}, "slot 1: head .*got 9"),
        ("action_out_of_range", {}, {"experts": f32(NAN, 0, 0, 9)}, "slot 1: head .*got 9"),
        ("action_shape", {}, {"took": [f32(0, 0), b"\0\0"]}, "expected 2 x 2 float32 .* got 8"),
    ],
)
def test_invalid_frames_message_raises_error_code_and_text(
    code: str, fields: dict[str, Any], sent: dict[str, Any], says: str
) -> None:
    error = remote_error(playing_session(**fields), frames(**sent))
    assert error.code == code
    assert re.search(says, error.message), error.message


@pytest.mark.parametrize("row", [(NAN, 0), (0, NAN), (2, 0), (0.5, 0), (0, 1.5)])
def test_took_in_frames_out_of_range_is_refused_where_actor_is_set(row: Any) -> None:
    for first, actors in ((row, b"\1\0"), ((0, 0), b"\0\1")):
        second = (0, 0) if first is row else row
        out = playing_session()
        receive_and_answer(out, frames())
        error = remote_error(out, frames(1, took=[f32(*first, *second), actors]))
        assert error.code == "action_out_of_range"
    out = playing_session()
    receive_and_answer(out, frames())
    assert receive_and_answer(out, frames(1, took=[f32(*row, 0, 0), b"\0\2"]))


# HELLO.


def test_hello_sets_game_spec_and_slots() -> None:
    out = new_session()
    [said] = out.receive(hello(slots=3, role="eval", **TWO))
    assert isinstance(said, HelloFields)
    assert said is out.hello
    assert (said.slots, said.role, said.client) == (3, "eval", "test/1")
    assert out.spec is not None
    assert (out.spec.game, out.spec.rewards) == ("g", ("score", "lives"))
    assert (out.next_seq, bytes(out.awaiting), bytes(out.first)) == ([0] * 3, bytes(3), b"\1" * 3)


@pytest.mark.parametrize(
    ("token", "code"),
    [("secret", None), ("guess", "bad_token"), ("", "bad_token"), ("secreté", "bad_token")],
)
def test_hello_with_wrong_token_is_refused_without_showing_it(token: str, code: str | None) -> None:
    out = new_session(token="secret")
    if code is None:
        assert list(out.receive(hello(token=token)))
    else:
        error = remote_error(out, hello(token=token))
        assert error.code == code
        assert "secret" not in error.message  # not even a near miss is told


def test_hello_with_token_to_server_without_token_is_accepted() -> None:
    assert list(new_session().receive(hello(token="whatever")))


def test_hello_token_is_checked_before_other_fields() -> None:
    error = remote_error(
        new_session(token="secret"), pack(1, {"protocol": 7, "slots": -1, "token": "guess"})
    )
    assert error.code == "bad_token"


def test_hello_protocol_version_is_checked_before_other_fields() -> None:
    error = remote_error(new_session(), pack(1, {"protocol": 2, "game": {"of": "another form"}}))
    assert error.code == "protocol_version"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"slots": MAX_SLOTS + 1}, "slots: expected 1 to 4096, got 4097"),
        ({"slots": -1}, "slots"),
        ({"client": ""}, "client: expected a name"),
        ({"client": "a\x1b[2Jb"}, "client: expected a name"),
        ({"client": "x" * 65}, "client: expected a name"),
        ({"observation": ["float32", [262_145]]}, "at most 1048576 bytes, got 1048580 bytes"),
        ({"observation": ["uint8", [2**40, 2**40]]}, "observation shape"),
        ({"actions": []}, "actions: expected 1 to 64 heads"),
    ],
)
def test_hello_with_invalid_game_raises_bad_hello(fields: dict[str, Any], says: str) -> None:
    error = remote_error(new_session(), hello(**fields))
    assert error.code == "bad_hello"
    assert says in error.message


def test_hello_at_all_limits_is_accepted() -> None:
    fields = {"slots": MAX_SLOTS, "client": "x" * 64, "observation": ["float32", [262_144]]}
    assert list(new_session().receive(hello(**fields)))


# Limits.


def test_message_over_64_kib_before_welcome_is_refused() -> None:
    out = session_in_state(WELCOME)
    assert remote_error(out, b"\0\1\0\1").code == "message_too_long"
    out = playing_session()
    assert list(out.receive(b"\0\1\0\1")) == []
    assert remote_error(playing_session(), b"\0\x10\0\1").code == "message_too_long"


def test_message_limit_below_64_kib_applies_to_handshake() -> None:
    assert (
        remote_error(new_session(max_message_bytes=1000), b"\0\0\3\xe9").code == "message_too_long"
    )


# Slots, seq, episodes.


def test_seq_is_counted_per_slot() -> None:
    out = playing_session()
    got = receive_and_answer(out, frame(0, 0), frame(1, 0), frame(0, 1), frame(2, 0), frame(1, 1))
    assert [(f.seq, f.slot) for f in got] == [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1)]


def test_seq_continues_across_episodes() -> None:
    out = playing_session()
    assert (
        len(receive_and_answer(out, frame(0), frame(1, status=1), frame(2), frame(3, status=2)))
        == 4
    )


def test_took_on_first_frame_of_episode_is_refused() -> None:
    took = [[1, 0.5], 2]
    out = playing_session()
    sent = frame(0), frame(1, took=took), frame(2, took=took, status=1), frame(3)
    assert len(receive_and_answer(out, *sent, frame(4, took=took))) == 5
    out = playing_session()
    receive_and_answer(out, frame(0), frame(1, status=2))
    assert remote_error(out, frame(2, took=took)).code == "took_on_first_frame"
    # The other slot has had no frame yet.
    assert remote_error(playing_session(), frame(0, 1, took=took)).code == "took_on_first_frame"


def test_took_in_frames_on_first_frame_is_refused_per_slot() -> None:
    rows = f32(0, 0, 1, 0.5)
    out = playing_session()
    receive_and_answer(out, frames(0), frames(1, statuses=b"\1\0"))
    assert len(receive_and_answer(out, frames(2, took=[rows, b"\0\1"]))) == 1
    out = playing_session()
    receive_and_answer(out, frames(0), frames(1, statuses=b"\1\0"))
    assert remote_error(out, frames(2, took=[rows, b"\2\0"])).code == "took_on_first_frame"


@pytest.mark.parametrize("status", [1, 2])
def test_eval_expert_last_frame_needs_no_recommendation(status: int) -> None:
    act = [1, 0.0]
    out = playing_session(**EXPERT)
    assert len(receive_and_answer(out, frame(0, expert=act), frame(1, status=status))) == 2
    rows = f32(0, 0, 1, 0)
    out = playing_session(**EXPERT)
    ended = frames(1, statuses=bytes([0, status]), experts=f32(0, 0, NAN, 0))
    both = frames(2, statuses=bytes([status, status]))
    assert len(receive_and_answer(out, frames(0, experts=rows), ended, both)) == 3


def test_frame_before_answer_to_previous_is_refused() -> None:
    out = playing_session()
    list(out.receive(frame(0)))
    assert list(out.receive(frame(0, 1)))  # another slot need not wait
    assert remote_error(out, frame(1)).code == "frame_before_answer"
    out = playing_session()
    list(out.receive(frames(0)))
    assert remote_error(out, frames(1)).code == "frame_before_answer"


def test_messages_in_one_read_are_checked_one_by_one() -> None:
    out = playing_session()
    messages = out.receive(frame(0) + frame(1))
    assert next(messages)
    out.answered(0)
    assert next(messages)  # answered meanwhile
    assert remote_error(playing_session(), frame(0) + frame(1)).code == "frame_before_answer"


def test_answered_without_pending_frame_raises_local_error() -> None:
    out = playing_session()
    with pytest.raises(LocalError, match="slot 1"):
        out.answered(1)
    with pytest.raises(LocalError, match="all slots"):
        out.answered_all()
    receive_and_answer(out, frames(0))
    with pytest.raises(LocalError):
        out.answered_all()


@pytest.mark.parametrize("reward", [1e39, -1e39, math.inf, -math.inf, NAN])
def test_reward_not_finite_in_float32_is_refused(reward: float) -> None:
    assert remote_error(playing_session(), frame(reward=reward)).code == "reward_not_finite"
    assert (
        remote_error(playing_session(**TWO), frame(reward=[0, reward])).code == "reward_not_finite"
    )


@pytest.mark.parametrize("reward", [1e9, -1e9, 7, [0.5]])
def test_reward_finite_is_accepted(reward: Any) -> None:
    assert receive_and_answer(playing_session(), frame(reward=reward))


# The end.


@pytest.mark.parametrize(
    "behind", [pack(4, 1), frame(), hello(), b"\0\0\0\0", b"GET ", b"\0\0\0\1\xc1", b"\0"]
)
def test_bytes_after_bye_or_error_are_ignored(behind: bytes) -> None:
    out = playing_session()
    got = list(out.receive(pack(5) + behind))
    assert [type(message) for message in got] == [Bye]
    assert list(out.receive(behind)) == []
    out.ended()

    out, got = playing_session(), []
    for message in out.receive(pack(4, 1) + behind):
        got.append(message)
        out.failed()  # the caller found something wrong with it
    assert len(got) == 1


def test_stream_ended_between_messages_is_accepted() -> None:
    out = playing_session()
    receive_and_answer(out, frame())
    out.ended()


@given(st.lists(st.integers(1, 200), max_size=20))
def test_receive_in_any_split_gives_same_messages(sizes: list[int]) -> None:
    sent = [pack(4, 1), frame(0), frame(0, 1), pack(4, 2), frame(1, 1, status=1), pack(5)]
    out, stream, got, at = playing_session(), b"".join(sent), [], 0
    for size in [*sizes, len(stream)]:
        got += [
            type(message).__name__ for message in receive_and_answer(out, stream[at : at + size])
        ]
        at += size
    assert got == ["Ping", "Frame", "Frame", "Ping", "Frame", "Bye"]


@given(st.lists(st.binary(max_size=80), max_size=6), st.sampled_from(list(State)))
def test_receive_random_bytes_raises_only_remote_error(pieces: list[bytes], state: State) -> None:
    out = session_in_state(state)
    with suppress(RemoteError):
        for piece in pieces:
            receive_and_answer(out, piece, framing.framed(piece or b"\0"))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.binary(max_size=25),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(st.data())
def test_receive_frame_with_random_elements_raises_only_remote_error(data: st.DataObject) -> None:
    """A frame whose every element is right or anything else."""
    good: dict[str, tuple[Any, ...]] = {
        "FRAME": (2, 0, 0, OBS, 0.0, 0, [1, 0.0], None),
        "FRAMES": (3, 0, OBS * 2, f32(0, 0), bytes(2), f32(0, 0, 1, 1), [f32(0, 0, 0, 0), b"\0\0"]),
    }
    for kind in good.values():
        out = playing_session()
        elements = [kind[0], *(data.draw(st.just(e) | ANYTHING) for e in kind[1:])]
        with suppress(RemoteError):
            receive_and_answer(out, pack(*elements))


def test_stream_number_is_unique_per_session_and_slot() -> None:
    numbers = {stream_number(s, slot) for s in range(1, 50) for slot in (0, 1, MAX_SLOTS - 1)}
    assert len(numbers) == 49 * 3
    assert MAX_SLOTS <= 1 << streams.SLOT_BITS
    assert stream_number((1 << 47) - 1, MAX_SLOTS - 1) < 2**63
