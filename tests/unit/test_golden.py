"""The golden vectors of the wire: each message both ways, and each refusal with its code."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent.decision import ActingParams
from agent.step import StepBlock
from config.models import RewardConfig
from protocol import codec
from protocol.errors import CODES, RemoteError
from protocol.framing import MessageReader
from protocol.messages import (
    CLIENT_TYPES,
    HELLO_LATER,
    NOT_SENT,
    RUNNING,
    SERVER_TYPES,
    Frame,
    Frames,
    Hello,
    HelloFields,
    Ping,
    Pong,
)
from protocol.session import ServerSession
from protocol.spaces import DTYPES, GameSpec
from server.gateway.frame_loop import FrameLoop
from tests.support.cases import for_each

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests/golden/wire.json").read_text())
VALID: list[dict[str, Any]] = GOLDEN["valid"]
INVALID: list[dict[str, Any]] = GOLDEN["invalid"]
MAX_BYTES = 1_048_576

NEED_MORE_THAN_BYTES = {
    "episode_limit",
    "no_such_policy",
    "spec_mismatch",
    "handshake_timeout",
    "idle_timeout",
    "slow_reader",
    "tls_failed",
    "bad_origin",
    "too_fast",
    "too_many_attempts",
    "too_many_clients",
    "server_stopping",
}
"""Codes that depend on time, on other clients, or on the run."""


def name(value: Any) -> str:
    return str(value["name"] if isinstance(value, dict) else value)


valid = for_each(VALID, name=name)
from_client = for_each([v for v in VALID if v["from"] == "client"], name=name)


def decode(vector: dict[str, Any], payload: memoryview | bytes) -> Any:
    if vector["from"] == "server":
        return codec.decode_server(payload)
    message = codec.decode_client(payload)
    if isinstance(message, Frame | Frames):
        # What comes behind the last element means nothing to a game that has not declared it.
        later = {"legal", "metrics"} - vector["message"].keys()
        return msgspec.structs.replace(message, **dict.fromkeys(later, NOT_SENT))
    return message


def message_as_json(message: Any) -> dict[str, Any]:
    """A decoded message as the file tells it."""
    if isinstance(message, Hello):
        return {"fields": to_json(codec.decode_hello(message))}
    values = {field: getattr(message, field) for field in message.__struct_fields__}
    return {field: to_json(value) for field, value in values.items() if value is not NOT_SENT}


def to_json(value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        return to_json(msgspec.msgpack.decode(value))
    if isinstance(value, bytes | memoryview):
        return {"bin": bytes(value).hex()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, HelloFields):
        value = {field: getattr(value, field) for field in value.__struct_fields__}
        # What came later is told where it says something.
        value = {k: v for k, v in value.items() if k not in HELLO_LATER or v != HELLO_LATER[k]}
    if isinstance(value, msgspec.Struct):
        return to_json(msgspec.to_builtins(value))
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value


def read(stream: bytes, size: int) -> list[bytes]:
    """The messages in a stream that arrives in pieces of `size` bytes."""
    reader, out = MessageReader(MAX_BYTES), []
    for at in range(0, len(stream), size):
        out += [bytes(message) for message in reader.feed(stream[at : at + size])]
    assert reader.partial == 0
    return out


def test_golden_file_equals_script_output() -> None:
    script = runpy.run_path(str(ROOT / "scripts/make_golden.py"))
    assert script["text"]() == (ROOT / "tests/golden/wire.json").read_text(), (
        "run scripts/make_golden.py"
    )


def test_every_message_type_has_golden_vectors() -> None:
    assert {v["type"] for v in VALID} == {*CLIENT_TYPES.values(), *SERVER_TYPES.values()}


def test_every_error_code_has_golden_vector_or_is_exempt() -> None:
    assert {v["code"] for v in INVALID} | NEED_MORE_THAN_BYTES == set(CODES)


@valid
def test_message_decoded_equals_golden_fields(vector: dict[str, Any]) -> None:
    [payload] = read(bytes.fromhex(vector["hex"]), MAX_BYTES)
    message = decode(vector, payload)
    assert type(message).__name__.upper() == vector["type"]
    assert message_as_json(message) == vector["message"]


@valid
def test_message_reencoded_equals_golden_bytes_if_canonical(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    message = decode(vector, data[4:])
    if isinstance(message, Hello):
        again = codec.encode(message)
        assert again == data[: len(again)]
        complete = codec.encode_hello(codec.decode_hello(message))
        # What the client left out is filled in; what it said in full comes out as it went in.
        assert (complete == data) is (
            vector["canonical"]
            and [*vector_fields(data), *HELLO_LATER] == list(HelloFields.__struct_fields__)
        )
    else:
        assert (codec.encode(message) == data) is vector["canonical"]


def vector_fields(data: bytes) -> dict[str, Any]:
    fields = msgspec.msgpack.decode(data[4:])[1]
    assert isinstance(fields, dict)
    return fields


def test_encode_action_equals_golden_bytes() -> None:
    for vector in VALID:
        if vector["type"] == "ACTION" and vector["canonical"]:
            m = vector["message"]
            assert codec.encode_action(*m.values()).hex() == vector["hex"]


@valid
def test_message_tensors_equal_golden_values(vector: dict[str, Any]) -> None:
    for key, tensor in vector.get("tensors", {}).items():
        field: Any = vector["message"]
        for part in key.split("."):
            field = field[("actions", "actors").index(part)] if type(field) is list else field[part]
        data = bytes.fromhex(field["bin"])
        got = np.frombuffer(data, DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
        expected = np.array(tensor["values"], np.float64).reshape(tensor["shape"])
        np.testing.assert_array_equal(got, expected)


@valid
def test_message_read_whole_bytewise_or_concatenated_is_equal(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    payload = data[4:]
    assert read(data, len(data)) == [payload]
    assert read(data, 1) == [payload]
    assert read(data * 3, 3 * len(data)) == [payload] * 3
    assert read(data * 3, 7) == [payload] * 3


@valid
def test_bytes_after_message_are_kept_for_next_message(vector: dict[str, Any]) -> None:
    data, ping = bytes.fromhex(vector["hex"]), bytes.fromhex("00000003 920407")
    reader = MessageReader(MAX_BYTES)
    assert list(reader.feed(data + ping[:3])) == [data[4:]]
    assert reader.partial == 3
    assert list(reader.feed(ping[3:])) == [ping[4:]]


@valid
def test_decode_truncated_payload_raises(vector: dict[str, Any]) -> None:
    payload = bytes.fromhex(vector["hex"])[4:]
    error = RemoteError if vector["from"] == "client" else msgspec.DecodeError
    for stop in range(len(payload)):
        with pytest.raises(error):
            decode(vector, payload[:stop])


class Sink:
    free = 1000

    def write(self, block: StepBlock) -> None:
        pass


class Zeros:
    """A policy whose every action is zero."""

    version = 0

    def __init__(self, spec: GameSpec) -> None:
        self._width = spec.action_width

    def greedy(self, obs: Any, _legal: Any = None) -> Any:
        return np.zeros((len(obs), self._width), np.float32)


class Server:
    """A session, and the turn that it hands its frames to; answers at once or not at all."""

    def __init__(self, token: str | None = None) -> None:
        self.session = ServerSession(max_message_bytes=MAX_BYTES, token=token)
        self.frame_loop: FrameLoop | None = None
        self.rows = np.empty(0, np.int64)
        self.answers: list[bytes] = []
        self.error: RemoteError | None = None

    def take(self, data: bytes, *, answered: bool = True) -> None:
        for message in self.session.receive(data):
            if isinstance(message, HelloFields) and answered:
                self._start(self.session.spec, message)
            elif isinstance(message, Frame):
                assert self.frame_loop is not None
                self.frame_loop.add_frame(self, message)
            elif isinstance(message, Frames):
                assert self.frame_loop is not None
                self.frame_loop.add_frames(self, message)
            if self.frame_loop is not None and answered:
                self.frame_loop.run()
                if self.error is not None:
                    raise self.error

    def take_all(self, data: Iterable[bytes]) -> None:
        for piece in data:
            self.take(piece)

    def _start(self, spec: GameSpec | None, hello: HelloFields) -> None:
        assert spec is not None
        policy: Any = Zeros(spec)
        rng = np.random.default_rng(0)
        self.frame_loop = FrameLoop(
            spec,
            RewardConfig(),
            policy,
            Sink(),
            lambda: ActingParams(1, 0, 0),
            rng,
            most_slots=hello.slots,
        )
        self.rows = self.frame_loop.join(list(range(hello.slots)), hello.role)
        self.session.welcomed()

    def send(self, data: bytes) -> None:
        self.answers.append(data)

    def answered(self, slot: int | None) -> None:
        if slot is None:
            self.session.answered_all()
        else:
            self.session.answered(slot)

    def fail(self, error: RemoteError) -> None:
        self.error = error


def pieces(data: bytes, how: str) -> Iterator[bytes]:
    size = 1 if how == "byte by byte" else len(data)
    for at in range(0, len(data), size):
        yield data[at : at + size]


@for_each(INVALID, ["whole", "byte by byte", "with bytes behind"], name=name)
def test_server_invalid_message_raises_golden_error_code(vector: dict[str, Any], how: str) -> None:
    server = Server(vector.get("token"))
    before = [bytes.fromhex(item) for item in vector["before"]]
    for item in before[:-1]:
        server.take(item)
    for item in before[-1:]:
        server.take(item, answered=vector["answered"])
    data = bytes.fromhex(vector["hex"])
    if vector.get("eof"):
        server.take_all(pieces(data, how))
        with pytest.raises(RemoteError) as caught:
            server.session.ended()
    else:
        if how == "with bytes behind":
            data += b"\x00\x00\x00\x01\xc1"
        with pytest.raises(RemoteError) as caught:
            server.take_all(pieces(data, how))
    assert caught.value.code == vector["code"], caught.value
    assert "expected" in caught.value.message.lower(), caught.value


HELLOS = {
    v["name"].removeprefix("hello "): bytes.fromhex(v["hex"]) for v in VALID if v["type"] == "HELLO"
}


@from_client
def test_server_accepts_valid_client_message(vector: dict[str, Any]) -> None:
    server, data = Server(), bytes.fromhex(vector["hex"])
    if vector["type"] != "HELLO":
        server.take(HELLOS[vector.get("game", "lander")])
        # As if the frames before it had been sent: none of an episode's first frames has `took`.
        seq = vector["message"].get("seq", 0)
        server.session.next_seq[:] = [seq] * len(server.session.next_seq)
        if seq:
            server.session.first[:] = bytes(len(server.session.first))
    server.take(data)
    kind = vector["type"]
    assert len(server.answers) == (kind in ("FRAME", "FRAMES"))
    if kind == "FRAME":
        answer: Any = codec.decode_server(server.answers[0][4:])
        asked = vector["message"]
        assert (answer.slot, answer.seq) == (asked["slot"], asked["seq"])
        if asked["status"] != RUNNING:
            assert (answer.action, answer.actor) == (None, 0)
        # A ratio of 1: the expert plays wherever it recommends something, except in `eval`.
        elif asked["expert"] is not None:
            one = [v[0] if v == [-0.5] else v for v in asked["expert"]]
            assert (answer.action, answer.actor) == (one, 2)
        else:
            assert answer.actor == 1


@for_each([v for v in VALID if v["type"] == "PING"], name=name)
def test_ping_nonce_echoed_in_pong(vector: dict[str, Any]) -> None:
    ping = codec.decode_client(bytes.fromhex(vector["hex"])[4:])
    assert isinstance(ping, Ping)
    pong: Any = codec.decode_server(codec.encode(Pong(ping.nonce))[4:])
    assert to_json(pong.nonce) == vector["message"]["nonce"]
