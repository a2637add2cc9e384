from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec
from protocol.errors import RemoteError
from protocol.messages import (
    NOT_SENT,
    Action,
    Error,
    Frame,
    Hello,
    HelloFields,
    Ping,
    Pong,
)
from protocol.spaces import Continuous, Discrete, Observation, Part
from tests.support.strategies import actions, specs

HELLO = HelloFields(
    protocol=1,
    client="test/1",
    game="g",
    observation=Observation("float32", (3,)),
    actions=(Discrete("fire", 2), Continuous("aim", -1.0, 1.0, 1)),
)

NUMBERS = st.integers(-(2**63), 2**64 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def pack(*elements: Any) -> bytes:
    return msgspec.msgpack.encode(elements)


def refusal(payload: bytes) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        codec.decode_client(payload)
    assert "expected" in caught.value.message.lower()
    return caught.value


def decode_all(payload: bytes) -> None:
    """Decode as a server does, HELLO in its two steps."""
    message = codec.decode_client(payload)
    if isinstance(message, Hello):
        codec.decode_gate(message)
        codec.decode_hello(message)


def code_of(call: Callable[[Any], Any], argument: Any) -> str | None:
    """The code of the RemoteError that a call ends in, if any; other exceptions pass."""
    try:
        call(argument)
    except RemoteError as error:
        return error.code
    return None


# Both ways.


@given(st.data())
def test_frame_encode_decode_round_trip(data: st.DataObject) -> None:
    spec = data.draw(specs())
    some = st.none() | actions(spec).map(list)
    took: list[Part] | None = data.draw(some)
    frame = Frame(
        data.draw(st.integers(0, 4095)),
        data.draw(st.integers(0, 2**32 - 1)),
        memoryview(data.draw(st.binary(max_size=40))),
        data.draw(st.floats(allow_nan=False) | st.lists(st.floats(allow_nan=False), max_size=3)),
        data.draw(st.integers(0, 2)),
        data.draw(some),
        None if took is None else (took, data.draw(st.integers(0, 255))),
    )
    encoded = codec.encode(frame)
    assert int.from_bytes(encoded[:4], "big") == len(encoded) - 4
    assert codec.decode_client(encoded[4:]) == frame


@given(st.data())
def test_action_round_trip_and_both_encoders_agree(data: st.DataObject) -> None:
    spec = data.draw(specs())
    fields: tuple[Any, ...] = (
        data.draw(st.integers(0, 4095)),
        data.draw(st.integers(0, 2**32 - 1)),
        data.draw(st.none() | actions(spec)),
        data.draw(st.integers(0, 2)),
        data.draw(st.integers(0, 2**40)),
        data.draw(st.booleans()),
    )
    encoded = codec.encode_action(*fields)
    action: Any = codec.decode_server(encoded[4:])
    assert isinstance(action, Action)
    assert codec.encode(action) == encoded
    got = msgspec.structs.astuple(action)
    assert got == (*fields[:2], fields[2] and list(fields[2]), *fields[3:])


def test_hello_encode_decode_round_trip() -> None:
    message = codec.decode_client(codec.encode_hello(HELLO)[4:])
    assert isinstance(message, Hello)
    assert codec.decode_hello(message) == HELLO
    assert codec.decode_gate(message).protocol == 1


def test_error_encoded_carries_code_message_and_retry() -> None:
    error = RemoteError("slow_reader", "expected this, got that", retry=True)
    assert codec.decode_server(codec.encode_error(error)[4:]) == Error(
        "slow_reader", "expected this, got that", True
    )


@given(VALUES)
def test_ping_any_nonce_echoed_in_pong(nonce: Any) -> None:
    sent = pack(4, nonce)
    ping = codec.decode_client(sent)
    assert isinstance(ping, Ping)
    # The bytes behind the array's head and its type are the nonce's.
    assert codec.encode(Pong(ping.nonce))[6:] == sent[2:]


@pytest.mark.parametrize(
    "nonce", ["cc07", "d3 0000000000000007", "ca 3fc00000", "d4 05 00", "a2 fffe", "81 80 01"]
)
def test_ping_unusual_nonce_encoding_echoed_byte_for_byte(nonce: str) -> None:
    """Long forms, extensions, and what Python could not even hold."""
    sent = b"\x92\x04" + bytes.fromhex(nonce)
    ping = codec.decode_client(sent)
    assert isinstance(ping, Ping)
    assert codec.encode(Pong(ping.nonce))[6:] == sent[2:]


@given(VALUES, VALUES)
def test_frame_extra_elements_are_ignored(one: Any, two: Any) -> None:
    """They are kept as they came: a mask and numbers, where the game has declared such."""
    frame = (2, 0, 0, b"obs", 0.5, 0, None, None)
    decoded = codec.decode_client(pack(*frame, one, two))
    assert isinstance(decoded, Frame)
    assert bytes(decoded.legal) == msgspec.msgpack.encode(one)
    assert bytes(decoded.metrics) == msgspec.msgpack.encode(two)
    plain = msgspec.structs.replace(decoded, legal=NOT_SENT, metrics=NOT_SENT)
    assert plain == codec.decode_client(pack(*frame))


@given(st.dictionaries(st.text(max_size=6), VALUES, max_size=5))
def test_hello_unknown_keys_are_ignored(extra: dict[str, Any]) -> None:
    known = msgspec.to_builtins(HELLO)
    message = codec.decode_client(pack(1, {**extra, **known}))
    assert isinstance(message, Hello)
    assert codec.decode_hello(message) == HELLO


def test_decode_gate_reads_only_protocol() -> None:
    odd = {"token": "t", "protocol": [2], "game": 7, "observation": "not today's"}
    message = codec.decode_client(pack(1, odd))
    assert isinstance(message, Hello)
    assert codec.decode_gate(message).protocol == [2]


def test_frame_observation_shares_memory_with_payload() -> None:
    payload = pack(2, 0, 0, b"observation", 0.0, 0, None, None)
    frame = codec.decode_client(memoryview(payload))
    assert isinstance(frame, Frame)
    assert np.shares_memory(np.frombuffer(frame.obs, np.uint8), np.frombuffer(payload, np.uint8))


# Refusals.


@given(st.binary(max_size=60))
def test_decode_random_bytes_raises_only_remote_error(payload: bytes) -> None:
    assert code_of(decode_all, payload) in (None, "message_malformed", "unknown_type")


@given(st.sampled_from([1, 2, 3, 4, 5]), st.lists(VALUES, max_size=9), st.binary(max_size=4))
def test_decode_random_elements_of_known_type_raises_only_remote_error(
    kind: int, elements: list[Any], rest: bytes
) -> None:
    code = code_of(decode_all, pack(kind, *elements) + rest)
    assert code in (None, "message_malformed", "bad_hello")


@given(st.integers(0, 200), st.integers(0, 7), st.binary(max_size=2))
def test_decode_hello_with_flipped_bit_raises_only_remote_error(
    at: int, bit: int, junk: bytes
) -> None:
    data = bytearray(codec.encode_hello(HELLO)[4:])
    at %= len(data)
    data[at] ^= 1 << bit
    code = code_of(decode_all, bytes(data) + junk)
    assert code in (None, "message_malformed", "unknown_type", "bad_hello")


NO_UTF8 = b"\xa2\xff\xfe"
DEEP = b"\x91" * 100_000 + b"\x00"
CYCLIC_KEYS = b"\x81\x80\x01"


@pytest.mark.parametrize("odd", [NO_UTF8, DEEP, CYCLIC_KEYS], ids=["utf-8", "deep", "map as key"])
@pytest.mark.parametrize("where", ["alone", "type", "frame", "hello", "key", "nonce", "behind"])
def test_decode_invalid_utf8_deep_nesting_or_map_key_never_crashes(odd: bytes, where: str) -> None:
    payload = {
        "alone": odd,
        "type": b"\x92" + odd + b"\x00",
        "frame": b"\x98\x02\x00\x00" + odd + b"\x00\x00\xc0\xc0",
        "hello": b"\x92\x01\x81\xa5token" + odd,
        "key": b"\x92\x01\x81" + odd + b"\x00",
        "nonce": b"\x92\x04" + odd,
        "behind": b"\x93\x04\x00" + odd,
    }[where]
    try:
        message = codec.decode_client(payload)
    except RemoteError:
        return
    if isinstance(message, Hello):
        assert code_of(codec.decode_gate, message) in (None, "bad_hello")
        assert code_of(codec.decode_hello, message) == "bad_hello"
    else:
        assert isinstance(message, Ping)


@pytest.mark.parametrize(
    "head", ["dd ffffffff", "92 04 dd ffffffff", "92 01 df ffffffff", "c6 ffffffff"]
)
def test_decode_header_claiming_four_billion_elements_is_malformed(head: str) -> None:
    assert refusal(bytes.fromhex(head)).code == "message_malformed"


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (pack(99), "got 99"),
        (pack(12, 0), "got 12 ACTION, which servers send"),
        (pack("FRAME"), "got 'FRAME'"),
        (pack([1]), "got an array"),
        (pack(True), "got True"),
        (pack(4.0, 1), "got 4.0"),
        (pack(), "got an array"),
        (msgspec.msgpack.encode({"type": 1}), "got a map"),
        (msgspec.msgpack.encode(7), "got 7"),
    ],
)
def test_decode_unknown_type_error_lists_known_types(payload: bytes, says: str) -> None:
    error = refusal(payload)
    assert error.code == "unknown_type"
    assert error.message.endswith(says)
    assert "1 HELLO, 2 FRAME, 3 FRAMES, 4 PING, 5 BYE" in error.message


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "expected 0 bytes holding exactly one msgpack value"),
        (b"\xc1", "invalid opcode"),
        (pack(5) + b"\x05", "trailing"),
        (pack(2, 0), "FRAME: expected an array of at least 8 elements, got 2"),
        (
            pack(2, "0", 0, b"", 0.0, 0, None, None),
            "FRAME: slot (element 1): expected int, got str",
        ),
        (pack(2, 0, 0, "x", 0.0, 0, None, None), "obs (element 3): expected bin, got str"),
        (
            pack(2, 0, 0, b"", None, 0, None, None),
            "reward (element 4): expected number or array, got nil",
        ),
        (pack(2, 0, 0, b"", 0.0, 0.0, None, None), "status (element 5): expected int, got float"),
        (pack(2, 0, 0, b"", 0.0, 0, 1, None), "expert (element 6): expected array or nil, got int"),
        (pack(2, 0, 0, b"", 0.0, 0, None, [[1], {}]), "took[1] (element 7): expected int, got map"),
        (pack(2, 0, 2**32, b"", 0.0, 0, None, None), "seq (element 2): expected int <= 4294967295"),
        (pack(5) + b"1234", "4 bytes early: the length must not count itself"),
        (pack(3, 0, "", b"", b"", None, None), "FRAMES: obs (element 2): expected bin, got str"),
        (
            pack(2, 0, 0, b"", 0.0, 0, None, [[0], 1, 2]),
            "took (element 7): expected an array of 2 elements, got 3",
        ),
    ],
)
def test_decode_malformed_message_error_names_element_and_cause(payload: bytes, says: str) -> None:
    error = refusal(payload)
    assert error.code == "message_malformed"
    assert says in error.message


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"client": None}, "HELLO: client: expected str, got nil"),
        ({"role": "watch"}, "role: expected train, eval, eval_expert, play; got 'watch'"),
        ({"observation": ["float32"]}, "observation: expected an array of at least 2 elements"),
        ({"actions": [["discrete", "x"]]}, "actions[0]: expected an array of"),
        ({"actions": [["binary", "x"]]}, "actions[0][0]: expected 'discrete' or 'continuous', got"),
        ({"rewards": [1]}, "rewards[0]: expected str, got int"),
        ({"slots": 1.5}, "slots: expected int, got float"),
        ({"protocol": True}, "protocol: expected int, got boolean"),
    ],
)
def test_decode_hello_invalid_field_error_names_field(changed: dict[str, Any], says: str) -> None:
    message = codec.decode_client(pack(1, msgspec.to_builtins(HELLO) | changed))
    assert isinstance(message, Hello)
    with pytest.raises(RemoteError) as caught:
        codec.decode_hello(message)
    assert caught.value.code == "bad_hello"
    assert says in caught.value.message


def test_decode_hello_missing_or_non_string_key_error_names_key() -> None:
    fields = msgspec.to_builtins(HELLO)
    for wrong, says in (
        ({k: v for k, v in fields.items() if k != "game"}, "a map with the key 'game', got one"),
        ({1: 2}, "HELLO: a key of the map: expected str, got int"),
        ({**fields, "observation": {"dtype": 1}}, "observation: expected array, got map"),
    ):
        message = codec.decode_client(pack(1, wrong))
        assert isinstance(message, Hello)
        with pytest.raises(RemoteError, match="bad_hello") as caught:
            codec.decode_hello(message)
        assert says in caught.value.message


def test_decode_errors_contain_no_msgspec_wording() -> None:
    """Whatever stands in whatever place of a FRAME."""
    whole = [2, 0, 0, b"", 0.0, 0, None, None]
    for place in range(1, len(whole)):
        for value in (None, True, 1, 1.5, "x", b"x", [], [{}], {}, [[], 1.5], [[b""]]):
            payload = pack(*whole[:place], value, *whole[place + 1 :])
            with contextlib.suppress(RemoteError):
                codec.decode_client(payload)
                continue
            message = refusal(payload).message
            assert not re.search(r"[`$]|Expected|bytes|object|null|None", message)
            assert f"(element {place})" in message


@pytest.mark.parametrize("payload", [b"\xc1", pack(1, {}), pack(12, 0), b""])
def test_decode_server_invalid_bytes_raises_decode_error(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        codec.decode_server(payload)
