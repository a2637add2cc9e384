"""Messages to bytes and back. Pure functions; msgspec validates while it decodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from protocol.decode_errors import in_words, kind_of
from protocol.errors import RemoteError
from protocol.framing import LENGTH_BYTES, framed
from protocol.messages import (
    ACTION,
    CLIENT_TYPES,
    FRAME,
    FRAMES,
    HELLO_LATER,
    PROTOCOL_VERSION,
    ROLES,
    SERVER_TYPES,
    ClientMessage,
    Error,
    Frame,
    Frames,
    Hello,
    HelloFields,
    HelloGate,
    ServerMessage,
    VersionError,
)
from protocol.observations import observations_of, wire_form
from protocol.spaces import Part


class _First(msgspec.Struct, frozen=True, array_like=True):
    """An array of which nothing is built."""

    kind: msgspec.Raw = msgspec.Raw(b"")


_encode = msgspec.msgpack.Encoder().encode
_decode_client: Callable[[Any], ClientMessage] = msgspec.msgpack.Decoder(ClientMessage).decode
_decode_server: Callable[[Any], ServerMessage] = msgspec.msgpack.Decoder(ServerMessage).decode
_decode_gate: Callable[[Any], HelloGate] = msgspec.msgpack.Decoder(HelloGate).decode
_decode_hello: Callable[[Any], HelloFields] = msgspec.msgpack.Decoder(HelloFields).decode
_decode_raw: Callable[[Any], msgspec.Raw] = msgspec.msgpack.Decoder(msgspec.Raw).decode
_decode_first: Callable[[Any], _First] = msgspec.msgpack.Decoder(_First).decode
_decode_any = msgspec.msgpack.Decoder().decode

_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bad bytes: strings that are no UTF-8 and values nested a thousand deep
have errors of their own, which are no DecodeError."""


_ELEMENTS = {FRAME: Frame.__struct_fields__, FRAMES: Frames.__struct_fields__}
"""What elements are called, for who got one wrong."""


def encode(message: ClientMessage | ServerMessage | VersionError) -> bytes:
    """The message as it travels: length, then msgpack."""
    if isinstance(message, Frame | Frames):
        kind = FRAME if isinstance(message, Frame) else FRAMES
        elements = list(msgspec.structs.astuple(message))
        # What came later is not sent where there is none; what is before it is nil then.
        while isinstance(elements[-1], msgspec.Raw) and not bytes(elements[-1]):
            elements.pop()
        later = (None if _is_empty(each) else each for each in elements)
        return framed(_encode((kind, *later)))
    return framed(_encode(message))


def _is_empty(element: Any) -> bool:
    return isinstance(element, msgspec.Raw) and not bytes(element)


def encode_hello(fields: HelloFields) -> bytes:
    """HELLO as it travels."""
    values = {name: getattr(fields, name) for name in fields.__struct_fields__}
    said = {k: v for k, v in values.items() if k not in HELLO_LATER or v != HELLO_LATER[k]}
    return encode(Hello(msgspec.Raw(_encode(said))))


def encode_action(
    slot: int, seq: int, action: Sequence[Part] | None, actor: int, version: int, explored: bool
) -> bytes:
    """ACTION as it travels: `encode(Action(...))` without the struct, for the frame path."""
    return framed(_encode((ACTION, slot, seq, action, actor, version, explored)))


def encode_error(error: RemoteError) -> bytes:
    """ERROR as it travels."""
    return encode(Error(error.code, error.message, error.retry))


def decode_client(payload: bytes | memoryview) -> ClientMessage:
    """What a client sent, typed and checked; `payload` is one message without its length.

    Errors: RemoteError `unknown_type`, `message_malformed`.
    """
    try:
        return _decode_client(payload)
    except _UNDECODABLE as error:
        raise _refusal(payload, error) from None


def decode_server(payload: bytes | memoryview) -> ServerMessage:
    """What a server sent, typed and checked. Errors: msgspec.DecodeError."""
    return _decode_server(payload)


def decode_gate(hello: Hello) -> HelloGate:
    """The version of a HELLO, and nothing else of it."""
    try:
        return _decode_gate(hello.fields)
    except _UNDECODABLE as error:
        raise _bad_hello(error) from None


def decode_hello(hello: Hello) -> HelloFields:
    """The fields of a HELLO. Errors: RemoteError `bad_hello`."""
    try:
        fields = _decode_hello(hello.fields)
        shown = wire_form(observations_of(fields.observation))
        return msgspec.structs.replace(fields, observation=shown)
    except _UNDECODABLE as error:
        raise _bad_hello(error) from None


def _bad_hello(error: Exception) -> RemoteError:
    return RemoteError(
        "bad_hello",
        f"HELLO: {in_words(error)}; expected a map with protocol ({PROTOCOL_VERSION}), client, "
        "game, observation, actions, and if need be rewards, slots, token, role "
        f"({', '.join(ROLES)}), realtime, masks, metrics",
    )


def _refusal(payload: bytes | memoryview, error: Exception) -> RemoteError:
    """Why a message could not be decoded, as an error for its sender. No more of it is built than
    is shown: it may be a thousand times as large in memory as on its way."""
    try:
        _decode_raw(payload)
        kind = _kind_of_message(payload)
    except _UNDECODABLE as what:
        return RemoteError(
            "message_malformed",
            f"expected {len(payload)} bytes holding exactly one msgpack value, got others: {what}"
            + _early_end(payload),
        )
    if type(kind) is int and kind in CLIENT_TYPES:
        what_is_wrong = in_words(error, _ELEMENTS.get(kind, ()))
        return RemoteError("message_malformed", f"{CLIENT_TYPES[kind]}: {what_is_wrong}")
    known = ", ".join(f"{number} {name}" for number, name in CLIENT_TYPES.items())
    # Containers by their type alone: they may be as long or as deep as a message can be.
    shown = repr(kind)[:40] if isinstance(kind, int | float | str) else kind_of(kind)
    if type(kind) is int and kind in SERVER_TYPES:
        shown += f" {SERVER_TYPES[kind]}, which servers send"
    return RemoteError(
        "unknown_type",
        f"expected an array whose first element is one of {known}; got {shown}",
    )


def _kind_of_message(payload: bytes | memoryview) -> Any:
    """The first element of an array; a value that is none itself. Containers are empty."""
    try:
        raw = bytes(_decode_first(payload).kind) or bytes(payload)
    except msgspec.ValidationError:
        raw = bytes(payload)
    if 0x80 <= raw[0] <= 0x8F or raw[0] in (0xDE, 0xDF):
        return {}
    if 0x90 <= raw[0] <= 0x9F or raw[0] in (0xDC, 0xDD):
        return []
    return _decode_any(raw)


def _early_end(payload: bytes | memoryview) -> str:
    """What to say where the value is whole without the last four bytes."""
    try:
        _decode_raw(payload[:-LENGTH_BYTES])
    except _UNDECODABLE:
        return ""
    return "; it ends 4 bytes early: the length must not count itself"
