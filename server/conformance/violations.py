"""What a server must refuse, and with which code: data, played by `play_violation`."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from server.conformance.expectations import check_error
from server.conformance.game import (
    EXPERT,
    MASK_OF,
    NAN,
    OBS,
    ROW,
    floats,
    frame,
    frames,
    observed,
)
from server.conformance.report import NotExercised
from server.conformance.server_under_test import ServerUnderTest, play
from server.net.plain_messages import message

INF = float("inf")


@dataclass(frozen=True, slots=True)
class Violation:
    """Bytes that are to be answered by ERROR `code`, and what goes before them."""

    name: str
    code: str
    sent: bytes
    hello: dict[str, Any] | None = field(default_factory=dict)
    """Changes to HELLO; None says no HELLO."""
    answered: tuple[list[Any], ...] = ()
    """Frames before, each of them answered."""


def play_violation(violation: Violation, server: ServerUnderTest) -> None:
    """Break the rule and expect the ERROR. Errors: RuleBroken."""
    with (
        server.connect() if violation.hello is None else server.welcomed(**violation.hello) as wire
    ):
        if wire.websocket and violation.code == "not_understudy":
            raise NotExercised("a WebSocket begins with its own bytes; check without --websocket")
        role = (violation.hello or {}).get("role")
        play(wire, *violation.answered, expert_alone=role == "eval_expert")
        wire.raw(violation.sent)
        check_error(wire, violation.code)


def _first(name: str, code: str, sent: bytes) -> Violation:
    return Violation(name, code, sent, None)


def _later(
    name: str, code: str, *sent: list[Any], answered: tuple[list[Any], ...] = (), **changes: Any
) -> Violation:
    return Violation(name, code, b"".join(message(*one) for one in sent), changes, answered)


def _two(name: str, code: str, answered: tuple[list[Any], ...] = (), **changes: Any) -> Violation:
    """In a FRAMES of two slots."""
    return _later(name, code, frames(len(answered), **changes), answered=answered, slots=2)


VIOLATIONS: list[Violation] = [
    _first("HTTP", "not_understudy", b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"),
    _first("TLS", "not_understudy", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    _first("a length of 65,537 before WELCOME", "message_too_long", b"\x00\x01\x00\x01"),
    Violation("a length of 4 GB", "message_too_long", b"\xff" * 4),
    _first("a length of zero first", "message_empty", bytes(4)),
    Violation("a length of zero later", "message_empty", bytes(4)),
    Violation("a byte that msgpack never uses", "message_malformed", b"\x00\x00\x00\x01\xc1"),
    Violation(
        "two values in one message", "message_malformed", b"\x00\x00\x00\x04\x91\x05\x91\x05"
    ),
    Violation("half a value in a message", "message_malformed", b"\x00\x00\x00\x02\x98\x02"),
    _later("a frame that is too short", "message_malformed", [2, 0, 0]),
    _later("an observation as text", "message_malformed", frame(0, obs="x" * len(OBS))),
    _later("an observation as numbers", "message_malformed", frame(0, obs=[0.5, -1.0, 2.0])),
    _later("a status as a boolean", "message_malformed", frame(0, status=False)),
    _later("a seq as a float", "message_malformed", frame(0.5)),  # type: ignore[arg-type]
    _later("a reward as text", "message_malformed", frame(0, reward="1")),
    _later("an action as a number", "message_malformed", frame(0, expert=1)),
    _later("an unknown type", "unknown_type", [99]),
    _later("a type that servers send", "unknown_type", [12, 0, 0, None, 0, 0, False]),
    Violation("a map instead of an array", "unknown_type", b"\x00\x00\x00\x03\x81\x01\x02"),
    _first("a frame before HELLO", "hello_first", message(*frame(0))),
    _first("a ping before HELLO", "hello_first", message(4, 1)),
    _later("one part for three heads", "action_shape", frame(0, expert=[1])),
    _later("a float for a choice", "action_shape", frame(0, expert=[1.5, 0.0, [0.0, 0.0]])),
    _later("one number for two", "action_shape", frame(0, expert=[1, 0.0, [0.0]])),
    _later("took of one part", "action_shape", frame(1, took=[[1], 2]), answered=(frame(0),)),
    _two("a number short in FRAMES", "action_shape", experts=floats(*ROW)),
    _later("choice 3 of 3", "action_out_of_range", frame(0, expert=[3, 0.0, [0.0, 0.0]])),
    _later("choice -1", "action_out_of_range", frame(0, expert=[-1, 0.0, [0.0, 0.0]])),
    _later("above high", "action_out_of_range", frame(0, expert=[0, 1.5, [0.0, 0.0]])),
    _later("NaN for a number", "action_out_of_range", frame(0, expert=[0, NAN, [0.0, 0.0]])),
    _later(
        "took below low",
        "action_out_of_range",
        frame(1, took=[[0, 0.0, [-2.5, 0.0]], 2]),
        answered=(frame(0),),
    ),
    _two("half a choice in FRAMES", "action_out_of_range", experts=floats(0.5, 0, 0, 0, *ROW)),
    _later("a short observation", "observation_size", frame(0, obs=OBS[:8])),
    _later("float64", "observation_size", frame(0, obs=struct.pack("<3d", 0, 0, 0) + OBS[12:])),
    _later("no observation", "observation_size", frame(0, obs=b"")),
    _two("one slot's observation for two", "observation_size", obs=OBS),
    _later("NaN to see", "observation_not_finite", frame(0, obs=observed((NAN, 0, 0)))),
    _later("infinity to see", "observation_not_finite", frame(0, obs=observed((0, INF, 0)))),
    _later("choice 4 of 4 to see", "observation_out_of_range", frame(0, obs=observed(room=4))),
    _later("a bool of 2", "observation_out_of_range", frame(0, obs=observed(light=2))),
    _two("choice 255 of 4 in a slot", "observation_out_of_range", obs=OBS + observed(room=255)),
    _later("two rewards for one", "reward_shape", frame(0, reward=[0.0, 0.0])),
    _two("a reward short in FRAMES", "reward_shape", rewards=floats(0.0)),
    _later("a reward of NaN", "reward_not_finite", frame(0, reward=NAN)),
    _later("a reward of infinity", "reward_not_finite", frame(0, reward=-INF)),
    _later("a reward beyond float32", "reward_not_finite", frame(0, reward=1e39)),
    _two("NaN among rewards", "reward_not_finite", rewards=floats(0.0, NAN)),
    _later("status 3", "unknown_status", frame(0, status=3)),
    _two("status 7 of a slot", "unknown_status", statuses=b"\x00\x07"),
    _two("a status short", "unknown_status", statuses=b"\x00"),
    _later("a slot that is not there", "unknown_slot", frame(0, slot=1)),
    _later("slot -1", "unknown_slot", frame(0, slot=-1)),
    _later("seq from 1", "seq_out_of_order", frame(1)),
    _later("a seq again", "seq_out_of_order", frame(0), answered=(frame(0),)),
    _later("a seq left out", "seq_out_of_order", frame(2), answered=(frame(0),)),
    _later(
        "seq from 0 in the second episode",
        "seq_out_of_order",
        frame(0),
        answered=(frame(0), frame(1, status=1)),
    ),
    _later("two frames at once", "frame_before_answer", frame(0), frame(1)),
    _later("FRAMES behind FRAME", "mixed_frames", frames(1), answered=(frame(0),), slots=2),
    _later("FRAME behind FRAMES", "mixed_frames", frame(1), answered=(frames(0),), slots=2),
    _later("took first of all", "took_on_first_frame", frame(0, took=[EXPERT, 2])),
    _later(
        "took first of the second episode",
        "took_on_first_frame",
        frame(2, took=[EXPERT, 2]),
        answered=(frame(0), frame(1, status=2)),
    ),
    _later("actor 3", "unknown_actor", frame(1, took=[EXPERT, 3]), answered=(frame(0),)),
    _later("actor 0", "unknown_actor", frame(1, took=[EXPERT, 0]), answered=(frame(0),)),
    _two(
        "actor 3 in FRAMES", "unknown_actor", (frames(0),), took=[floats(*ROW, *ROW), b"\x02\x03"]
    ),
    _later("a mask as a list", "message_malformed", frame(0, legal=[1, 0, 1])),
    _later("a mask of two bytes for one", "mask_size", frame(0, legal=b"\x07\x00")),
    _later("an empty mask", "mask_size", frame(0, legal=b"")),
    _two("one slot's mask for two", "mask_size", legal=MASK_OF[0]),
    _later("a number for two names", "metrics_shape", [*frame(0), None, [1]], metrics=["a", "b"]),
    _later(
        "a number that is infinite", "metric_not_finite", [*frame(0), None, [INF]], metrics=["a"]
    ),
    _later("no legal choice", "no_legal_choice", frame(0, legal=b"\xf8")),
    _two("no legal choice in a slot", "no_legal_choice", legal=MASK_OF[0] + b"\x00"),
    _later("illegal advice", "action_illegal", frame(0, expert=EXPERT, legal=MASK_OF[0])),
    _two(
        "illegal advice in FRAMES",
        "action_illegal",
        experts=floats(*ROW, NAN, 0, 0, 0),
        legal=MASK_OF[2] * 2,
    ),
    _later(
        "took what the frame before forbids",
        "action_illegal",
        frame(1, took=[EXPERT, 2]),
        answered=(frame(0, legal=MASK_OF[0]),),
    ),
    _later(
        "eval_expert without a recommendation in its episode",
        "expert_missing",
        frame(1, status=1),
        answered=(frame(0),),
        role="eval_expert",
    ),
    _later(
        "eval_expert without one in a later episode",
        "expert_missing",
        frame(3, status=2),
        answered=(frame(0, expert=EXPERT), frame(1, status=1), frame(2)),
        role="eval_expert",
    ),
]
"""In the order of the specification's table of errors, nearly. Those about HELLO are below: they
need the server's token."""

HELLOS: list[tuple[str, str, dict[str, Any]]] = [
    ("protocol 2", "protocol_version", {"protocol": 2}),
    ("protocol as text", "protocol_version", {"protocol": "1"}),
    ("no episode announced", "bad_hello", {"role": "eval", "episodes": 0}),
    ("half an episode announced", "bad_hello", {"role": "eval", "episodes": 0.5}),
    ("no heads", "bad_hello", {"actions": []}),
    ("a choice of one", "bad_hello", {"actions": [["discrete", "fire", 1]]}),
    ("low equal to high", "bad_hello", {"actions": [["continuous", "turn", 1.0, 1.0, 1]]}),
    ("low above high", "bad_hello", {"actions": [["continuous", "turn", 1.0, -1.0, 1]]}),
    (
        "bounds alike as float32",
        "bad_hello",
        {"actions": [["continuous", "turn", 1.0, 1.0 + 1e-12, 1]]},
    ),
    ("a size of 0", "bad_hello", {"actions": [["continuous", "turn", -1.0, 1.0, 0]]}),
    ("a head of no kind", "bad_hello", {"actions": [["binary", "fire"]]}),
    ("two heads of one name", "bad_hello", {"actions": [["discrete", "fire", 2]] * 2}),
    ("float64 to see", "bad_hello", {"observation": ["float64", [3]]}),
    ("a shape without sides", "bad_hello", {"observation": ["float32", []]}),
    ("a side of 0", "bad_hello", {"observation": ["float32", [3, 0]]}),
    ("five sides", "bad_hello", {"observation": ["float32", [1, 1, 1, 1, 3]]}),
    ("an observation of 16 GB", "bad_hello", {"observation": ["float32", [65536, 65536]]}),
    ("no rewards", "bad_hello", {"rewards": []}),
    ("two rewards of one name", "bad_hello", {"rewards": ["score", "score"]}),
    ("no slots", "bad_hello", {"slots": 0}),
    ("4,097 slots", "bad_hello", {"slots": 4097}),
    ("no such role", "bad_hello", {"role": "spectator"}),
    ("no such policy", "bad_hello", {"role": "play", "policy": "worst"}),
    ("a policy in the role train", "bad_hello", {"policy": "best"}),
    ("exploring in the role eval", "bad_hello", {"role": "eval", "explores": True}),
    ("a checkpoint that is not there", "no_such_policy", {"role": "play", "policy": "9999999999"}),
    ("realtime as a number", "bad_hello", {"realtime": 1}),
    ("a client without a name", "bad_hello", {"client": ""}),
    ("a name of 65 characters", "bad_hello", {"client": "x" * 65}),
    ("a name that cannot be printed", "bad_hello", {"game": "a\nb"}),
    ("a game as a number", "bad_hello", {"game": 5}),
    ("another game", "spec_mismatch", {"game": "conformance-2"}),
    ("another observation", "spec_mismatch", {"observation": ["float32", [4]]}),
    ("another dtype", "spec_mismatch", {"observation": ["uint8", [3]]}),
    ("other heads", "spec_mismatch", {"actions": [["discrete", "fire", 3]]}),
    ("metrics of one name twice", "bad_hello", {"metrics": ["a", "a"]}),
    ("no masks", "spec_mismatch", {"masks": False}),
    ("masks as a number", "bad_hello", {"masks": 1}),
    (
        "masks without a choice",
        "bad_hello",
        {"actions": [["continuous", "turn", -1.0, 1.0, 1]]},
    ),
    ("other rewards", "spec_mismatch", {"rewards": ["reward", "time"]}),
]
"""Name, code, and what is changed in HELLO."""


def violations(server: ServerUnderTest) -> list[Violation]:
    """All of them, for a server that wants this token."""
    return [
        *VIOLATIONS,
        *(
            _first(name, code, message(1, server.fields() | changes))
            for name, code, changes in HELLOS
        ),
        _later("a second HELLO", "hello_twice", [1, server.fields()]),
        _first("HELLO without a map", "bad_hello", message(1, 5)),
    ]
