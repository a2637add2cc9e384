"""The older format, of `tempest_ai`'s clients for arcade Tempest: bytes in, checked frames out;
replies to bytes. No I/O. docs/tempest.md describes it.

    connection   00 00, then frames
    frame        u16 big-endian length, header (protocol.tempest_headers), n float32 big-endian
    reply        fire, zap, knob (i8 each); 5 bytes: start-advanced flag, start level (u8 each)

The client says neither what game it plays nor how its replies are to look: `tempest_spec` and
`Replies` are what the server assumes of its header. It sends no HELLO; `TempestSession` makes one
from its first frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from protocol.errors import LocalError, RemoteError
from protocol.messages import MAX_SEQ, PROTOCOL_VERSION, RUNNING, TERMINATED, HelloFields
from protocol.observation_checks import MAX_VALUE
from protocol.policies import PolicyName
from protocol.session import State
from protocol.spaces import Continuous, Discrete, GameSpec, Head, Observation, Part
from protocol.tempest_headers import (
    HEADER_39,
    HEADERS,
    VALUE_BYTES,
    Header,
    Phase,
    check_length,
    recognized,
)

HEADER = HEADER_39.dtype
"""What stands before the values of the newest clients. `fire`, `zap` and `spinner` are the last
reply as the client understood it; `target` is the segment that its expert aims at."""

LEAD = b"\x00\x00"
"""The first bytes of a connection."""

_HELLO = b"\x92\x01"
"""The first bytes of the protocol's HELLO behind its length. No frame has so many values."""

LENGTH_BYTES = 2

AHEAD_BYTES = LENGTH_BYTES + 0xFFFF
"""What a client may send before its frame is answered: one frame of any length. It is read from
again when the answer is on its way."""

GAME = "tempest"
CLIENT = "tempest_ai"
REWARDS = HEADER_39.rewards
"""What the reward of the newest clients is made of."""

MAX_SPINNER = 0.9
SCALE = 32
LEVELS = (0, 12, 9, 6, 3, 1, -1, -3, -6, -9, -12)
"""What the choices of a spinner of levels send."""

_ONE = 0x3F800000
"""1.0 as the bits of a float32. Without their sign, larger ones are larger numbers; NaN and
infinity are the largest."""


def tempest_spec(values: int, spinner: str, rewards: tuple[str, ...] = REWARDS) -> GameSpec:
    """The game as a network sees it: so many values; which buttons are pressed (fire x 2 + zap);
    and the knob, as a number ("continuous") or as one of LEVELS ("levels"). `rewards`: of the
    client's header."""
    knob: Head = (
        Discrete("spinner", len(LEVELS))
        if spinner == "levels"
        else Continuous("spinner", -MAX_SPINNER, MAX_SPINNER, 1)
    )
    shape = Observation("float32", (values,))
    return GameSpec(GAME, shape, (Discrete("buttons", 4), knob), rewards).checked()


class Replies:
    """Actions to bytes, for clients that read replies of `length` bytes (3 or 5)."""

    def __init__(self, length: int, spinner: str, *, advanced: bool, level: int) -> None:
        """`advanced`: games start at the highest level that can be chosen; else `level` is the
        lowest one that they start from."""
        self._pack = Struct("bbb").pack
        self._levels = spinner == "levels"
        self._rest = bytes([advanced, level]) if length == 5 else b""
        self.zeros = bytes(3) + self._rest
        """To a frame that ends an episode."""

    def encode(self, action: Sequence[Part] | None) -> bytes:
        """The reply with this action of the wire; None: zeros."""
        if action is None:
            return self.zeros
        buttons, knob = action
        assert isinstance(buttons, int)
        assert isinstance(knob, int | float)
        turn = LEVELS[int(knob)] if self._levels else round(SCALE * knob)
        return self._pack(buttons >> 1, buttons & 1, turn) + self._rest


class TempestFrame(NamedTuple):
    """A frame whose content is checked."""

    seq: int
    obs: memoryview
    """Little-endian, like all that is stored; valid until the next frame is taken."""
    rewards: list[float]
    """By component, in the order of the spec."""
    status: int
    header: memoryview
    """As it came."""
    save: bool
    """The client asks for a checkpoint."""
    expert_zaps: bool
    first: bool
    """It begins an episode."""
    told: tuple[int, int, int]
    """Fire, zap and turn of the last reply, as the client understood it."""
    phase: Phase
    score: int
    level: int


class TempestSession:
    """The protocol state of one connection. Its interface is that of `ServerSession`.

    Frames are given out one at a time: the next one when `answered` was called. What comes before
    that waits, and `receive(b"")` gives it out.
    """

    __slots__ = (
        "_awaiting",
        "_bits",
        "_elsewhere",
        "_first",
        "_led",
        "_realtime",
        "_rest",
        "_seq",
        "_spinner",
        "_unsigned",
        "_values",
        "header",
        "hello",
        "policy",
        "sent_wrong_token",
        "spec",
        "state",
    )

    def __init__(
        self, spinner: str, elsewhere: str = "server.port", *, realtime: bool = False
    ) -> None:
        """`spinner`: "continuous" or "levels"; `elsewhere`: where clients of the protocol connect,
        for one that came here; `realtime`: the game cannot be made to wait for the trainer, which
        the format has no field for."""
        self.state = State.AWAIT_HELLO
        self.header: Header | None = None
        """Of this client; None before its first frame."""
        self.hello: HelloFields | None = None
        self.spec: GameSpec | None = None
        self.policy: PolicyName | None = None
        self.sent_wrong_token = False
        self._spinner = spinner
        self._elsewhere = elsewhere
        self._realtime = realtime
        self._rest = bytearray()
        self._led = False
        self._awaiting = False
        self._first = True
        self._seq = 0
        # Made with the first frame: where values are turned around and looked at.
        self._values: npt.NDArray[np.float32] = np.empty(0, np.float32)
        self._bits: npt.NDArray[np.uint32] = np.empty(0, np.uint32)
        self._unsigned: npt.NDArray[np.uint32] = np.empty(0, np.uint32)

    @property
    def partial(self) -> int:
        """How many bytes are held."""
        return len(self._rest)

    @property
    def held(self) -> str:
        """What is there of an unfinished message, in words."""
        return f"{len(self._rest)} bytes"

    @property
    def ahead(self) -> bool:
        """The client has sent more than may wait: it should not be read from for now."""
        return len(self._rest) > AHEAD_BYTES

    @property
    def more(self) -> bool:
        """Something waits that `receive(b"")` may give out, or refuse."""
        return len(self._rest) >= LENGTH_BYTES and not self._awaiting

    def receive(self, data: bytes) -> Iterator[HelloFields | TempestFrame]:
        """What these bytes complete: a HELLO of our making, then frame after frame.

        Errors: RemoteError, after which the caller calls `failed`.
        """
        if self.state is State.CLOSED:
            return
        rest = self._rest
        # As it is on the frame path: one frame and nothing else.
        if (
            not rest
            and not self._awaiting
            and self.state is State.PLAYING
            and len(data) >= LENGTH_BYTES
            and len(data) == LENGTH_BYTES + self._length(data)
        ):
            yield self._frame(memoryview(data)[LENGTH_BYTES:])
            return
        rest += data
        if not self._led and len(rest) >= len(LEAD):
            self._check_lead()
        if self.header is None and self._is_hello():
            raise RemoteError(
                "not_understudy",
                "expected a frame of an older client for Tempest, got the HELLO of another client; "
                f"it connects to {self._elsewhere}",
            )
        while (
            self._led
            and not self._awaiting
            and len(rest) >= LENGTH_BYTES
            and (self.header is not None or self._is_hello() is not None)
            and len(rest) >= (end := LENGTH_BYTES + self._length(rest))
        ):
            if self.state is State.AWAIT_HELLO:
                yield self._open(bytes(rest[LENGTH_BYTES:end]))
            if self.state is not State.PLAYING:
                return
            payload = bytes(rest[LENGTH_BYTES:end])
            del rest[:end]
            yield self._frame(memoryview(payload))

    def ended(self) -> None:
        """The connection ended. Errors: RemoteError `message_truncated`."""
        held = len(self._rest)
        if self.state is State.CLOSED or not held:
            return
        if held < LENGTH_BYTES or held < LENGTH_BYTES + int.from_bytes(self._rest[:2], "big"):
            raise RemoteError(
                "message_truncated",
                f"expected the rest of a frame, got the end of the connection after {held} bytes",
            )

    def welcomed(self) -> None:
        """The game may play."""
        if self.state is not State.AWAIT_WELCOME:
            raise LocalError(f"welcome in state {self.state.value!r}")
        self.state = State.PLAYING

    def failed(self) -> None:
        """The connection is over."""
        self.state = State.CLOSED

    def answered(self, _slot: int | None = None) -> None:
        """The frame was answered."""
        if not self._awaiting:
            raise LocalError("a frame was answered twice")
        self._awaiting = False

    def answered_all(self) -> None:
        """The same: there is one slot."""
        self.answered()

    def _check_lead(self) -> None:
        lead = bytes(self._rest[: len(LEAD)])
        if lead != LEAD:
            raise RemoteError(
                "not_understudy",
                f"expected the bytes 00 00 that an older client for Tempest begins with, got "
                f"{lead.hex(' ')}; other games connect to {self._elsewhere}",
            )
        del self._rest[: len(LEAD)]
        self._led = True

    def _is_hello(self) -> bool | None:
        """Whether the first message is the protocol's HELLO; None while that cannot be told. Its
        length is judged after that: else an error would depend on how the bytes were split."""
        if self._rest.startswith(b"\x00\x00"):
            return False  # no message at all
        begin = self._rest[LENGTH_BYTES : LENGTH_BYTES + len(_HELLO)]
        return begin == _HELLO if len(begin) == len(_HELLO) else None

    def _length(self, data: bytes | bytearray) -> int:
        """The length that the first two bytes announce."""
        length = data[0] << 8 | data[1]
        if length == 0:
            raise RemoteError("message_empty", "expected a frame, got a length of 0")
        if self.header is None:
            check_length(length)
        else:
            expected = self.header.size + VALUE_BYTES * len(self._values)
            if length != expected:
                raise RemoteError(
                    "observation_size",
                    f"expected frames of {len(self._values)} values ({expected} bytes) "
                    f"like this connection's first, got a length of {length}",
                )
        return length

    def _open(self, payload: bytes) -> HelloFields:
        self.header = header = recognized(payload)
        values = (len(payload) - header.size) // VALUE_BYTES
        self.spec = spec = tempest_spec(values, self._spinner, header.rewards)
        self._values = np.empty(values, np.float32)
        self._bits = self._values.view(np.uint32)
        self._unsigned = np.empty(values, np.uint32)
        self.hello = HelloFields(
            protocol=PROTOCOL_VERSION,
            client=CLIENT,
            game=spec.game,
            observation=spec.observation,
            actions=spec.actions,
            rewards=spec.rewards,
            realtime=self._realtime,
        )
        self.state = State.AWAIT_WELCOME
        return self.hello

    def _frame(self, payload: memoryview) -> TempestFrame:
        assert self.header is not None
        header = self.header.fields(payload)
        if header.n != len(self._values):
            raise RemoteError(
                "message_malformed",
                f"expected {len(self._values)} values as the length of the frame says, got n = "
                f"{header.n}",
            )
        if header.done not in (0, 1):
            raise RemoteError(
                "unknown_status", f"expected done 0 or 1, got {header.done}; see docs/tempest.md"
            )
        for name, reward in zip(self.header.rewards, header.rewards, strict=True):
            if not -MAX_VALUE <= reward <= MAX_VALUE:  # written so that NaN fails
                raise RemoteError(
                    "reward_not_finite",
                    f"expected a {name} reward from -{MAX_VALUE:g} to {MAX_VALUE:g}, got {reward}",
                )
        values = self._values
        values[:] = np.frombuffer(payload, ">f4", offset=self.header.size)
        np.bitwise_and(self._bits, 0x7FFFFFFF, out=self._unsigned)
        if self._unsigned.max() > _ONE:
            raise self._bad_value()
        if self._seq > MAX_SEQ:
            raise RemoteError(
                "seq_out_of_order",
                f"expected at most {MAX_SEQ} frames on a connection; connect again",
            )
        frame = TempestFrame(
            self._seq,
            values.data.cast("B"),
            header.rewards,
            TERMINATED if header.done else RUNNING,
            payload[: self.header.size],
            header.save != 0,
            header.expert_zap != 0,
            self._first,
            header.told,
            header.phase,
            header.score,
            header.level,
        )
        self._seq += 1
        self._first = header.done != 0
        self._awaiting = True
        return frame

    def _bad_value(self) -> RemoteError:
        element = int(np.argmax(self._unsigned > _ONE))
        value = float(self._values[element])
        shown = f"{value:g}" if math.isfinite(value) else str(value)
        return RemoteError(
            "observation_not_finite",
            f"expected values from -1 to 1, got {shown} as value {element}",
        )


def header_fields(rows: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """Headers as they came, all of one kind, uint8 [n, size], as an array [n] for each field."""
    header = next(header for header in HEADERS if header.size == rows.shape[1])
    items = rows.view(header.dtype)[:, 0]
    return {name: items[name] for name in header.names}
