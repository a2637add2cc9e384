"""The client library's bytes against the golden vectors of the wire."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.cases import for_each
from understudy_client import wire
from understudy_client.errors import ProtocolViolation
from understudy_client.observations import observations_of
from understudy_client.spec import Continuous, Discrete

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/wire.json").read_text())
VALID: list[dict[str, Any]] = GOLDEN["valid"]
SERVER = [v for v in VALID if v["from"] == "server"]
TYPES = {"ACTION": "Answer"}


def name(value: Any) -> str:
    return str(value["name"] if isinstance(value, dict) else value)


def canonical_vectors(*types: str) -> Any:
    chosen = [v for v in VALID if v["type"] in types and v["canonical"]]
    assert chosen
    return for_each(chosen, name=name)


def from_json(value: Any) -> Any:
    """A value of the file as a caller passes it: tensors as bytes."""
    if isinstance(value, dict):
        return bytes.fromhex(value["bin"]) if "bin" in value else value
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return value


def to_json(value: Any) -> Any:
    """A decoded message as the file tells it."""
    if isinstance(value, bytes):
        return {"bin": value.hex()}
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, msgspec.Struct):
        return {
            field: to_json(found)
            for field in value.__struct_fields__
            if (found := getattr(value, field)) is not msgspec.UNSET
        }
    return value


def heads(actions: list[list[Any]]) -> list[Discrete | Continuous]:
    return [Discrete(*h[1:]) if h[0] == "discrete" else Continuous(*h[1:]) for h in actions]


def inbox(stream: bytes, size: int) -> list[Any]:
    """What arrives of a stream in pieces of at most `size` bytes."""
    box, out = wire.Inbox(64), []
    while stream:
        space = box.space()
        count = min(size, len(space), len(stream))
        space[:count] = stream[:count]
        box.filled(count)
        stream = stream[count:]
        while (message := box.next()) is not None:
            out.append(message)
    return out


@canonical_vectors("HELLO")
def test_hello_encoded_equals_golden_fields(vector: dict[str, Any]) -> None:
    fields = vector["message"]["fields"]
    given = fields | {
        "observation": observations_of(fields["observation"]),
        "actions": heads(fields["actions"]),
    }
    kind, sent = msgspec.msgpack.decode(wire.encode_hello(**given)[4:])
    assert kind == 1
    assert {"token": None} | sent == fields
    # No key without a value: a server may tell a missing token from an empty one.
    assert ("token" in sent) is (fields["token"] is not None)


@canonical_vectors("FRAME", "FRAMES")
def test_frame_encoded_equals_golden_bytes(vector: dict[str, Any]) -> None:
    encode: Any = wire.encode_frame if vector["type"] == "FRAME" else wire.encode_frames
    fields = {key: from_json(value) for key, value in vector["message"].items()}
    assert bytes(encode(**fields)).hex() == vector["hex"]
    buffer = bytearray(b"what was sent before, much longer than this message" * 9)
    again = encode(**fields, into=buffer)
    assert again is buffer
    assert bytes(again).hex() == vector["hex"]


@canonical_vectors("PING")
def test_ping_encoded_equals_golden_bytes(vector: dict[str, Any]) -> None:
    assert bytes(wire.encode_ping(vector["message"]["nonce"])).hex() == vector["hex"]


@canonical_vectors("BYE")
def test_bye_encoded_equals_golden_bytes(vector: dict[str, Any]) -> None:
    assert bytes(wire.encode_bye()).hex() == vector["hex"]


@for_each(SERVER, [10_000, 1, 7], name=name)
def test_server_message_decoded_equals_golden_fields(vector: dict[str, Any], size: int) -> None:
    data = bytes.fromhex(vector["hex"])
    for count in (1, 3):
        got = inbox(data * count, size)
        assert [to_json(message) for message in got] == [vector["message"]] * count
        assert {type(message).__name__.upper() for message in got} == {
            TYPES.get(vector["type"], vector["type"]).upper()
        }


@for_each(SERVER, name=name)
def test_decode_truncated_server_message_raises_violation(vector: dict[str, Any]) -> None:
    payload = bytes.fromhex(vector["hex"])[4:]
    for stop in range(len(payload)):
        with pytest.raises(ProtocolViolation):
            wire.decode(payload[:stop])


@pytest.mark.parametrize(
    "text", [b"\xa2\xff\xfe", b"\x91" * 5_000 + b"\x00"], ids=["utf-8", "deep"]
)
def test_decode_invalid_utf8_or_deep_nesting_raises_violation(text: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        wire.decode(b"\x92\x0e" + text)


def test_protocol_version_and_roles_equal_golden_values() -> None:
    assert GOLDEN["protocol"] == wire.PROTOCOL_VERSION
    assert {v["message"]["fields"]["role"] for v in VALID if v["type"] == "HELLO"} == set(
        wire.ROLES
    )
