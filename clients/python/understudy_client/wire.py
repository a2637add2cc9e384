"""The messages as bytes: pure functions, no sockets.

A message is a big-endian u32 length and that many bytes holding one msgpack array, whose first
element is the message type. Elements behind the last one that is named here belong to later
versions and are ignored, as are unknown map keys.

The `encode_...` functions return complete messages with the length in front. `into` is a buffer
to overwrite and return, for a caller who sends many: it saves an allocation for each message.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from understudy_client.errors import ProtocolViolation
from understudy_client.observations import wire_form
from understudy_client.spec import Head, Part

PROTOCOL_VERSION = 1

RUNNING, TERMINATED, TRUNCATED = 0, 1, 2
"""The status of a frame. Termination is an end of the game's making; truncation is not."""

DQN, EXPERT = 1, 2
"""Who chose an action. 0 stands where there is none: behind the last frame of an episode."""

ROLES = ("train", "eval", "eval_expert", "play")

EVALUATE = "understudy.evaluate"
"""The key of settings that asks games to evaluate: a number that is larger each time."""

EPISODE_LIMIT = "episode_limit"
"""The code of ERROR that cuts an episode of evaluation: the next one is to begin."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The longest message taken from a server. Its answers are a few bytes for each slot: a longer
one means that the other side is no understudy server (the first bytes of HTTP read as 1.2 GB)."""

_LENGTH = struct.Struct(">I")


class WelcomeFields(msgspec.Struct, frozen=True):
    """The map in WELCOME."""

    session: int
    protocol: int
    server: str = ""
    settings: dict[str, Any] = {}
    episode_limit: tuple[int, float] | msgspec.UnsetType = msgspec.UNSET


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=11):
    fields: WelcomeFields


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """ACTION: what to do now, and who says so.

    `action` has one element for each head: an int, or a float or list of floats. It is None and
    `actor` 0 where the frame ended an episode. `explored` is true where dqn acted at random.
    """

    slot: int
    seq: int
    action: list[Part] | None
    actor: int
    policy_version: int
    explored: bool


class Actions(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """ACTIONS as it travels: `actions` f32 [slots, A], `actors` u8 [slots], `explored` u8."""

    seq: int
    actions: bytes
    actors: bytes
    policy_version: int
    explored: bytes


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=14):
    nonce: Any


class Error(msgspec.Struct, frozen=True, array_like=True, tag=15):
    code: str
    message: str
    retry: bool


class Settings(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """Settings that the operator changed for the games; the others stay as they were."""

    settings: dict[str, Any]


ServerMessage = Welcome | Answer | Actions | Pong | Error | Settings


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's, wherever a message holds them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a message cannot hold {type(value).__name__}; send numbers, str or bytes")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_decoder: msgspec.msgpack.Decoder[ServerMessage] = msgspec.msgpack.Decoder(ServerMessage)


def _encode(message: tuple[Any, ...], into: bytearray | None) -> bytearray:
    buffer = bytearray() if into is None else into
    _encoder.encode_into(message, buffer, 4)
    _LENGTH.pack_into(buffer, 0, len(buffer) - 4)
    return buffer


def encode_hello(
    *,
    client: str,
    game: str,
    observation: Any,
    actions: Sequence[Head],
    rewards: Sequence[str] = ("reward",),
    slots: int = 1,
    token: str | None = None,
    role: str = "train",
    realtime: bool = False,
    protocol: int = PROTOCOL_VERSION,
    episodes: int | None = None,
    evaluates: bool = False,
    masks: bool = False,
    metrics: Sequence[str] = (),
    policy: str | None = None,
    explores: bool = False,
) -> bytearray:
    """HELLO. `observation`: an Observation, or several, or what HELLO makes of them
    (understudy_client.observations). `token` is left out of the map where there is none, and so are
    `realtime`, `episodes`, `evaluates`, `masks`, `metrics`, `policy` and `explores`: no news to a
    server then."""
    fields: dict[str, Any] = {
        "protocol": protocol,
        "client": client,
        "game": game,
        "observation": wire_form(observation),
        "actions": list(actions),
        "rewards": list(rewards),
        "slots": slots,
        "role": role,
    }
    if token is not None:
        fields["token"] = token
    if realtime:
        fields["realtime"] = True
    if episodes is not None:
        fields["episodes"] = episodes
    if evaluates:
        fields["evaluates"] = True
    if masks:
        fields["masks"] = True
    if metrics:
        fields["metrics"] = list(metrics)
    if policy is not None:
        fields["policy"] = policy
    if explores:
        fields["explores"] = True
    return _encode((1, fields), None)


def encode_frame(
    slot: int,
    seq: int,
    obs: bytes | memoryview,
    reward: float | Sequence[float] = 0.0,
    status: int = RUNNING,
    expert: Sequence[Part] | None = None,
    took: tuple[Sequence[Part], int] | None = None,
    legal: bytes | memoryview | None = None,
    metrics: Sequence[float | None] | None = None,
    *,
    into: bytearray | None = None,
) -> bytearray:
    """FRAME. `obs` is C-ordered, in the dtype and shape of HELLO. `legal`: a packed mask.
    `metrics`: a number or None for each declared name."""
    message = (2, slot, seq, obs, reward, status, expert, took)
    return _encode((*message, *_later(legal, metrics)), into)


def encode_frames(
    seq: int,
    obs: bytes | memoryview,
    rewards: bytes | memoryview,
    statuses: bytes | memoryview,
    experts: bytes | memoryview | None = None,
    took: tuple[bytes | memoryview, bytes | memoryview] | None = None,
    legal: bytes | memoryview | None = None,
    metrics: bytes | memoryview | None = None,
    *,
    into: bytearray | None = None,
) -> bytearray:
    """FRAMES: `obs` slots x obs, `rewards` f32, `statuses` u8, `experts` f32 slots x A,
    `took` (f32 slots x A, u8 slots), `legal` slots x packed mask, `metrics` f32 slots x names."""
    message = (3, seq, obs, rewards, statuses, experts, took)
    return _encode((*message, *_later(legal, metrics)), into)


def _later(legal: Any, metrics: Any) -> tuple[Any, ...]:
    """Elements that came later: they are sent as far as there are any."""
    if metrics is not None:
        return legal, metrics
    return () if legal is None else (legal,)


def encode_ping(nonce: Any) -> bytearray:
    """PING: the server sends the nonce back in PONG."""
    return _encode((4, nonce), None)


def encode_bye() -> bytearray:
    """BYE: the game ends here."""
    return _encode((5,), None)


def decode(payload: bytes | bytearray | memoryview) -> ServerMessage:
    """The message in a payload (without the length in front). Errors: ProtocolViolation."""
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolViolation(
            f"expected a message of protocol {PROTOCOL_VERSION}, got {len(payload)} bytes that "
            f"are none ({error}); is this an understudy server of the same version?"
        ) from None


class Inbox:
    """Bytes in, messages out: takes a stream apart, however it is split or glued.

    Write received bytes into `space()`, say how many with `filled(n)`, then take messages with
    `next()` until it returns None. One buffer for the whole connection; it grows when a message
    is longer.
    """

    __slots__ = ("_buffer", "_end", "_start", "_view")

    def __init__(self, size: int = 64 * 1024) -> None:
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0

    def space(self) -> memoryview:
        """Where the next received bytes belong; never empty."""
        return self._view[self._end :]

    def filled(self, count: int) -> None:
        self._end += count

    def next(self) -> ServerMessage | None:
        """The next complete message, or None. Errors: ProtocolViolation."""
        start, available = self._start, self._end - self._start
        if available < 4:
            self._make_room(4)
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, start)
        if not 1 <= length <= MAX_MESSAGE_BYTES:
            if bytes(self._view[start : start + 2]) == b"\x15\x03":
                raise ProtocolViolation(
                    "expected a message, got an alert of TLS: this server encrypts; connect with "
                    "tls=True (--tls where it is a command)"
                )
            raise ProtocolViolation(
                f"expected a message of 1 to {MAX_MESSAGE_BYTES} bytes, got a length of {length} "
                f"(bytes {bytes(self._view[start : start + 4])!r}); "
                "is this the port of an understudy server?"
            )
        if available < 4 + length:
            self._make_room(4 + length)
            return None
        message = decode(self._view[start + 4 : start + 4 + length])
        self._start = start + 4 + length
        if self._start == self._end:
            self._start = self._end = 0
        return message

    def _make_room(self, needed: int) -> None:
        """See that a message of `needed` bytes fits behind `_start`."""
        if self._start + needed <= len(self._buffer):
            return
        left = bytes(self._view[self._start : self._end])
        if needed > len(self._buffer):
            self._buffer = bytearray(max(needed, 2 * len(self._buffer)))
            self._view = memoryview(self._buffer)
        self._view[: len(left)] = left
        self._start, self._end = 0, len(left)
