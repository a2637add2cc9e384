from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, first_message
from protocol.errors import RemoteError
from protocol.first_message import MAX_VALUES, FirstMessage, look
from protocol.framing import HANDSHAKE_MAX_BYTES, framed
from protocol.messages import HelloFields
from protocol.session import MAX_SLOTS, ServerSession, State
from tests.support.cases import for_each
from tests.support.worlds import SPEC

FIELDS: dict[str, Any] = {
    "protocol": 1,
    "client": "test/1",
    "game": SPEC.game,
    "observation": msgspec.to_builtins(SPEC.observation),
    "actions": msgspec.to_builtins(SPEC.actions),
}


def packed(*elements: Any) -> bytes:
    return msgspec.msgpack.encode(elements)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=25,
)


@given(
    before=st.dictionaries(st.text().filter(lambda key: key != "token"), VALUES, max_size=5),
    token=st.none() | st.text() | VALUES,
    behind=st.lists(VALUES, max_size=2),
)
def test_token_is_found_behind_any_values(
    before: dict[str, Any], token: Any, behind: list[Any]
) -> None:
    payload = packed(1, before | {"token": token} | {"client": "x"}, *behind)
    said = token.encode() if isinstance(token, str) else None
    assert look(payload) == FirstMessage(1, True, said, too_many=False)


@given(value=VALUES)
def test_type_is_seen_as_the_decoder_sees_it(value: Any) -> None:
    # No type is below 0, and the smallest of them have a byte of their own, which it does not read.
    kind = look(packed(value, {})).kind
    whole = type(value) is int
    assert kind == (value if whole else None) or (whole and value < 0 and kind is None)
    assert look(msgspec.msgpack.encode(value)).token is None


@for_each(
    [b"\x01", b"\xcc\x01", b"\xcd\x00\x01", b"\xd2\x00\x00\x00\x01"],
    [b"\x92", b"\xdc\x00\x02", b"\xdd\x00\x00\x00\x02"],
    [b"\x81", b"\xde\x00\x01", b"\xdf\x00\x00\x00\x01"],
    [b"\xa5", b"\xd9\x05", b"\xda\x00\x05", b"\xdb\x00\x00\x00\x05"],
)
def test_every_form_of_a_token_is_seen(
    kind: bytes, array: bytes, fields: bytes, head: bytes
) -> None:
    payload = array + kind + fields + head + b"token" + head + b"right"
    assert look(payload) == FirstMessage(1, True, b"right", too_many=False)
    session = ServerSession(max_message_bytes=2**20, token="right")
    with pytest.raises(RemoteError, match="client"):  # which comes next
        list(session.receive(framed(payload)))


@given(data=st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    look(data)
    look(b"\x92\x01" + data)
    look(b"\x92\x01\x8f" + data)


def test_largest_hello_has_fewer_values_than_allowed() -> None:
    largest = FIELDS | {
        "actions": [["continuous", f"head{i}" + "x" * 58, -1.0, 1.0, 4096] for i in range(64)],
        "rewards": [f"reward{i}" + "x" * 56 for i in range(64)],
        "observation": ["float32", [1, 1, 1, 3]],
        "slots": MAX_SLOTS,
        "role": "train",
        "token": "right",
    }
    session = ServerSession(max_message_bytes=2**20, token="right")
    (hello,) = session.receive(framed(packed(1, largest)))
    assert isinstance(hello, HelloFields)
    assert look(packed(1, largest | {"later": [0] * 400})).too_many is False


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


COSTLY: dict[str, Any] = {
    "numbers": [0] * 60_000,
    "maps": [{}] * 60_000,
    "nested": [_nested(500)] * 100,
    "full maps": [{"": 0}] * 15_000,
}
"""As much work for a decoder as the 64 KiB of a handshake can be."""


@pytest.mark.promise("hostile-connections")
@pytest.mark.parametrize("costly", COSTLY.values(), ids=COSTLY)
@pytest.mark.parametrize("token", [None, "wrong"])
@pytest.mark.parametrize("kind", [1, 2, 4, 99])
def test_nothing_is_decoded_before_the_token(
    monkeypatch: pytest.MonkeyPatch, costly: Any, token: str | None, kind: int
) -> None:
    """Whatever is said: without the token no decoder sees more than a HELLO may be."""
    steps = 0
    real = first_message._Walk._step

    def step(self: Any) -> int:
        nonlocal steps
        steps += 1
        return real(self)

    def decode(payload: bytes | memoryview) -> Any:
        raise AssertionError(f"{len(payload)} bytes are decoded")

    monkeypatch.setattr(first_message._Walk, "_step", step)
    monkeypatch.setattr(codec, "decode_client", decode)
    session = ServerSession(max_message_bytes=2**20, token="right")
    payload = packed(kind, {"token": token, "more": costly})
    assert len(payload) <= HANDSHAKE_MAX_BYTES
    with pytest.raises(RemoteError) as caught:
        list(session.receive(framed(payload)))
    assert caught.value.code == ("bad_token" if kind == 1 else "message_malformed")
    assert session.sent_wrong_token is (kind == 1 and token is not None)
    assert steps <= MAX_VALUES + 1


@pytest.mark.promise("hostile-connections")
@pytest.mark.parametrize("costly", COSTLY.values(), ids=COSTLY)
@pytest.mark.parametrize("fields", [FIELDS, {}])
def test_hello_of_more_values_than_allowed_is_refused_undecoded(
    monkeypatch: pytest.MonkeyPatch, costly: Any, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr(codec, "decode_client", lambda _: pytest.fail("decoded"))
    for token in (None, "right"):
        session = ServerSession(max_message_bytes=2**20, token=token)
        with pytest.raises(RemoteError, match=f"at most {MAX_VALUES} values") as caught:
            list(session.receive(framed(packed(1, {"token": "right"} | fields | {"x": costly}))))
        assert caught.value.code == "bad_hello"


def test_token_behind_more_values_than_allowed_is_no_token() -> None:
    session = ServerSession(max_message_bytes=2**20, token="right")
    with pytest.raises(RemoteError, match="got none"):
        list(session.receive(framed(packed(1, {"x": [0] * MAX_VALUES, "token": "right"}))))
    assert session.state is State.AWAIT_HELLO


def test_hello_with_two_tokens_is_let_in_by_the_first_alone() -> None:
    fields = b"\x82\xa5token\xa5wrong\xa5token\xa5right"
    session = ServerSession(max_message_bytes=2**20, token="right")
    with pytest.raises(RemoteError, match="got another"):
        list(session.receive(framed(b"\x92\x01" + fields)))


def test_refusal_builds_nothing_of_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of small maps is a gigabyte of dicts: whoever may send it is told without."""
    built: list[int] = []
    real = codec._decode_any

    def decode(payload: bytes) -> Any:
        built.append(len(payload))
        return real(payload)

    monkeypatch.setattr(codec, "_decode_any", decode)
    maps = b"\xdc\xea\x60\x09" + b"\x81\x00\x00" * 59_999
    for payload in (
        maps,
        b"\x92" + maps + b"\x00",
        b"\x92\x63" + maps,
        b"\x98\x02" + maps,
        maps[:-1],
    ):
        with pytest.raises(RemoteError):
            codec.decode_client(payload)
    assert sum(built) < 100
