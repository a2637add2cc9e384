from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from protocol import messages
from protocol.messages import (
    CLIENT_TYPES,
    HELLO_LATER,
    MAX_SEQ,
    ROLES,
    RUNNING,
    SERVER_TYPES,
    TERMINATED,
    TRUNCATED,
    ClientMessage,
    Frame,
    HelloFields,
    ServerMessage,
)
from protocol.spaces import Discrete, Observation


def type_numbers(union: Any) -> dict[Any, str]:
    return {t.__struct_config__.tag: t.__name__.upper() for t in get_args(union)}


def test_message_type_numbers_match_wire_format() -> None:
    # Written out again: a number that once travelled is never used for anything else.
    assert CLIENT_TYPES == {1: "HELLO", 2: "FRAME", 3: "FRAMES", 4: "PING", 5: "BYE"}
    assert SERVER_TYPES == {
        11: "WELCOME",
        12: "ACTION",
        13: "ACTIONS",
        14: "PONG",
        15: "ERROR",
        16: "SETTINGS",
    }


def test_message_struct_tags_match_type_tables() -> None:
    assert type_numbers(ClientMessage) == CLIENT_TYPES
    assert type_numbers(ServerMessage) == SERVER_TYPES


def test_statuses_roles_and_protocol_version_match_wire_format() -> None:
    assert (RUNNING, TERMINATED, TRUNCATED) == (0, 1, 2)
    assert ROLES == ("train", "eval", "eval_expert", "play")
    assert messages.PROTOCOL_VERSION == 1


@pytest.mark.parametrize("kind", get_args(ClientMessage) + get_args(ServerMessage))
def test_message_struct_is_array_and_allows_extra_fields(kind: Any) -> None:
    config = kind.__struct_config__
    assert config.array_like
    assert config.frozen
    assert not config.forbid_unknown_fields


def test_hello_without_optional_fields_has_defaults() -> None:
    hello = HelloFields(
        protocol=1,
        client="c",
        game="g",
        observation=Observation("float32", (1,)),
        actions=(Discrete("a", 2),),
    )
    assert (hello.rewards, hello.slots, hello.token, hello.role) == (("reward",), 1, None, "train")
    assert {name: getattr(hello, name) for name in HELLO_LATER} == HELLO_LATER
    others = {"episodes": None, "metrics": (), "policy": None}
    assert dict.fromkeys(HELLO_LATER, False) | others == HELLO_LATER


@pytest.mark.parametrize("seq", [0, MAX_SEQ])
def test_frame_seq_beyond_32_bits_is_rejected(seq: int) -> None:
    def data(seq: int) -> bytes:
        return msgspec.msgpack.encode([2, 0, seq, b"", 0.0, 0, None, None])

    assert msgspec.msgpack.decode(data(seq), type=Frame).seq == seq
    with pytest.raises(msgspec.ValidationError, match="4294967295"):
        msgspec.msgpack.decode(data(MAX_SEQ + 1), type=Frame)
