"""Clients that cost little: each frame is a prepared message of which a few bytes are patched.

They speak the protocol (`PreparedClient`), or the older format of Tempest's clients
(`TempestClient`). A real game uses the client library.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from protocol import codec
from protocol.framing import LENGTH_BYTES
from protocol.messages import HelloFields, Welcome
from protocol.spaces import Discrete, GameSpec, Observation
from protocol.tempest import HEADER, LEAD
from protocol.tempest import LENGTH_BYTES as TEMPEST_LENGTH_BYTES
from protocol.tempest_headers import PLAYING
from server.net.plain_messages import message, receive_exactly

EPISODE_FRAMES = 997
"""A prime, so that the clients' episodes do not end together."""

HELLO_TIMEOUT_S = 60.0

_ACTION_HEAD = b"\x97\x0c"  # an array of 7 whose first element is 12: ACTION
_ACTIONS_HEAD = b"\x96\x0d"  # an array of 6 whose first element is 13: ACTIONS

_SEQ = 2**32 - 1
"""Needs the 4-byte form, so that every seq fits its place."""

_TEMPEST_REPLY_BYTES = 5


def bench_spec(observations: int, actions: int) -> GameSpec:
    """A game with so many floats and one discrete head."""
    return GameSpec("bench", Observation("float32", (observations,)), (Discrete("act", actions),))


def frame_bytes(spec: GameSpec, slots: int = 1, *, tempest: bool = False) -> int:
    """The length of every message that these clients send."""
    rng = np.random.default_rng(0)
    if tempest:
        return len(tempest_frame(spec, rng))
    if slots > 1:
        return len(_frames(spec, slots, rng)[0])
    return len(_frame(spec, rng, recommends=True)[0])


class LoadClient:
    """A connection, and the frame that it sends again and again."""

    def __init__(
        self, address: tuple[str, int], frame: bytearray, *, checks_answers: bool = True
    ) -> None:
        """Connect. Without `checks_answers` any bytes are an answer: those of an echo, for one."""
        self.sock = socket.create_connection(address)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.frame = frame
        self.seq = 0
        """Frames that were sent."""
        self.sent_at = 0.0
        """When the last one was, by the caller's clock."""
        self._checks_answers = checks_answers

    def hello(self) -> None:
        """Shake hands; returns when the server is ready. Errors: OSError, RuntimeError."""
        raise NotImplementedError

    def send(self, now: float) -> None:
        """The next frame, as one of this time."""
        raise NotImplementedError

    def receive(self) -> bytes:
        """The answer that has come. Errors: ConnectionError; RuntimeError where it is none."""
        answer = self.sock.recv(65536)
        if not answer:
            raise ConnectionError(
                f"the server closed the connection of a client that keeps the rules, after "
                f"{self.seq} frames"
            )
        if self._checks_answers:
            self.check(answer)
        return answer

    def check(self, answer: bytes) -> None:
        """Errors: RuntimeError if this is no answer to a frame."""
        raise NotImplementedError


class PreparedClient(LoadClient):
    """A client of the protocol."""

    slots, head = 1, _ACTION_HEAD

    def __init__(
        self,
        address: tuple[str, int],
        spec: GameSpec,
        rng: np.random.Generator,
        *,
        name: str = "bench/1",
        recommends: bool = True,
        checks_answers: bool = True,
    ) -> None:
        """recommends: whether its frames have an action of an expert."""
        frame, self._seq_at, self._status_at = self._prepared(spec, rng, recommends)
        super().__init__(address, frame, checks_answers=checks_answers)
        self._hello = HelloFields(
            protocol=1,
            client=name,
            game=spec.game,
            observation=spec.observation,
            actions=spec.actions,
            rewards=spec.rewards,
            slots=self.slots,
        )

    def _prepared(
        self, spec: GameSpec, rng: np.random.Generator, recommends: bool
    ) -> tuple[bytearray, int, int]:
        """A message, and where its seq and its status stand."""
        return _frame(spec, rng, recommends=recommends)

    def hello(self) -> None:
        self.sock.settimeout(HELLO_TIMEOUT_S)
        self.send_hello()
        length = int.from_bytes(receive_exactly(self.sock, LENGTH_BYTES), "big")
        self.check_welcome(receive_exactly(self.sock, length))

    def send_hello(self) -> None:
        """HELLO, without waiting for WELCOME."""
        self.sock.sendall(codec.encode_hello(self._hello))

    def check_welcome(self, payload: bytes) -> None:
        """Errors: RuntimeError if this message, without its length, is no WELCOME."""
        answer = codec.decode_server(payload)
        if type(answer) is not Welcome:
            raise RuntimeError(f"expected WELCOME, got {answer}")

    def check(self, answer: bytes) -> None:
        if answer[4:6] != self.head:
            raise RuntimeError(f"expected an answer to its frames, got {answer[:200]!r}")

    def send(self, now: float) -> None:
        struct.pack_into(">I", self.frame, self._seq_at, self.seq)
        self.frame[self._status_at] = self.seq % EPISODE_FRAMES == EPISODE_FRAMES - 1
        self.seq += 1
        self.sent_at = now
        sent = self.sock.send(self.frame)
        if sent < len(self.frame):  # more than the system takes at a time
            self.sock.setblocking(True)
            self.sock.sendall(memoryview(self.frame)[sent:])
            self.sock.setblocking(False)


def slots_client(slots: int) -> type[PreparedClient]:
    """A client with so many slots, which sends the frames of all of them together. Only the episode
    of its first one ends, ever and again."""

    class SlotsClient(PreparedClient):
        head = _ACTIONS_HEAD

        def _prepared(
            self, spec: GameSpec, rng: np.random.Generator, _: bool
        ) -> tuple[bytearray, int, int]:
            return _frames(spec, slots, rng)

    SlotsClient.slots = slots
    return SlotsClient


class TempestClient(LoadClient):
    """A client in the older format of Tempest's clients."""

    def __init__(
        self,
        address: tuple[str, int],
        spec: GameSpec,
        rng: np.random.Generator,
        *,
        checks_answers: bool = True,
    ) -> None:
        super().__init__(address, tempest_frame(spec, rng), checks_answers=checks_answers)
        self._done_at = TEMPEST_LENGTH_BYTES + _offset("done")
        self._number_at = TEMPEST_LENGTH_BYTES + _offset("frame")

    def hello(self) -> None:
        """Begin, and play one frame: its reply tells that the server is ready."""
        self.sock.settimeout(HELLO_TIMEOUT_S)
        self.sock.sendall(LEAD)
        self.send(0.0)
        self.check(receive_exactly(self.sock, _TEMPEST_REPLY_BYTES))

    def check(self, answer: bytes) -> None:
        if len(answer) != _TEMPEST_REPLY_BYTES:
            raise RuntimeError(
                f"expected a reply of {_TEMPEST_REPLY_BYTES} bytes, got {answer[:200]!r}"
            )

    def send(self, now: float) -> None:
        self.frame[self._done_at] = self.seq % EPISODE_FRAMES == EPISODE_FRAMES - 1
        struct.pack_into(">H", self.frame, self._number_at, self.seq & 0xFFFF)
        self.seq += 1
        self.sent_at = now
        self.sock.send(self.frame)


def close_all(clients: Sequence[LoadClient]) -> None:
    """Close their connections, without a word."""
    for client in clients:
        client.sock.close()


def tempest_frame(spec: GameSpec, rng: np.random.Generator) -> bytearray:
    """A frame in the older format with random values, whose expert aims at something."""
    header = np.zeros(1, HEADER)
    header["n"] = spec.observation_size
    header["objective"], header["subjective"] = 50.0, -1.0
    header["game_state"], header["game_mode"] = 4, PLAYING
    header["target"], header["player"] = rng.integers(16, size=2)
    header["expert_fire"] = 1
    values = rng.uniform(-1, 1, spec.observation_size).astype(">f4")
    payload = header.tobytes() + values.tobytes()
    return bytearray(len(payload).to_bytes(TEMPEST_LENGTH_BYTES, "big") + payload)


def _offset(name: str) -> int:
    """Where a field of the older format's header stands."""
    assert HEADER.fields is not None
    return HEADER.fields[name][1]


def _frame(
    spec: GameSpec, rng: np.random.Generator, *, recommends: bool
) -> tuple[bytearray, int, int]:
    """A FRAME with a random observation and recommendation, and where its seq and its status
    stand."""
    obs = rng.standard_normal(spec.observation_size, dtype=np.float32).tobytes()
    action = _action(spec, rng) if recommends else None
    reward: Any = 0.5 if len(spec.rewards) == 1 else [0.5] * len(spec.rewards)
    frame = bytearray(message(2, 0, _SEQ, obs, reward, 0, action, None))
    seq_at = frame.index(_SEQ.to_bytes(4, "big"))
    # Behind the status stand the recommendation and what was taken instead: nothing.
    status_at = len(frame) - len(msgspec.msgpack.encode(action)) - 2
    return frame, seq_at, status_at


def _frames(spec: GameSpec, slots: int, rng: np.random.Generator) -> tuple[bytearray, int, int]:
    """FRAMES of so many slots, as of `_frame`, with the status of the first one."""
    obs = rng.standard_normal((slots, spec.observation_size), dtype=np.float32).tobytes()
    rewards = np.full((slots, len(spec.rewards)), 0.5, "<f4").tobytes()
    rows = [spec.action_row(_action(spec, rng)) for _ in range(slots)]
    experts = np.array(rows, "<f4").tobytes()
    frame = bytearray(message(3, _SEQ, obs, rewards, bytes(slots), experts, None))
    seq_at = frame.index(_SEQ.to_bytes(4, "big"))
    return frame, seq_at, len(frame) - len(msgspec.msgpack.encode(experts)) - 1 - slots


def _action(spec: GameSpec, rng: np.random.Generator) -> list[Any]:
    """A part for each head."""
    out: list[Any] = []
    for head in spec.actions:
        if isinstance(head, Discrete):
            out.append(int(rng.integers(head.n)))
        else:
            numbers = rng.uniform(head.low, head.high, head.size).tolist()
            out.append(numbers if head.size > 1 else numbers[0])
    return out
