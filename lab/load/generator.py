"""A load generator that costs little: many clients in lock step in one process, each frame a
prepared message of which a few bytes are patched. For the bench; a real game uses the client
library. It speaks the protocol, and the older format of Tempest's clients.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

import msgspec
import numpy as np

from protocol import codec
from protocol.framing import framed
from protocol.messages import HelloFields
from protocol.spaces import Discrete, GameSpec, Observation
from protocol.tempest import HEADER, LEAD, LENGTH_BYTES

EPISODE_FRAMES = 997
"""A prime, so that the clients' episodes do not end together."""

_ACTION_HEAD = b"\x97\x0c"  # an array of 7 whose first element is 12: ACTION

_REPLY_BYTES = 5
"""Of a reply in the older format."""


def bench_spec(observations: int, actions: int) -> GameSpec:
    """A game with so many floats and one discrete head."""
    return GameSpec("bench", Observation("float32", (observations,)), (Discrete("act", actions),))


def frame_bytes(spec: GameSpec, *, tempest: bool = False) -> int:
    """The length of every frame that the load generator sends."""
    return len((_older_frame if tempest else _frame)(spec, np.random.default_rng(0)))


@dataclass(frozen=True)
class LoadResult:
    """What the clients saw."""

    frames: int
    seconds: float
    fps: float
    p50_ms: float
    p99_ms: float
    worst_gap_ms: float
    """The longest time in which no client got an answer."""


class _Game:
    """One client: its socket, its message and where the bytes to patch are."""

    def __init__(self, address: tuple[str, int], spec: GameSpec, rng: np.random.Generator) -> None:
        self.sock = socket.create_connection(address)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.seq = 0
        self.sent_at = 0.0
        self.message = _frame(spec, rng)
        self.seq_at = self.message.index(b"\xff\xff\xff\xff")
        # Behind the float of the reward (9 bytes) stands the status.
        reward_at = self.message.rindex(struct.pack(">Bd", 0xCB, 0.5))
        self.status_at = reward_at + 9

    def check(self, answer: bytes) -> None:
        """Errors: RuntimeError if this is no ACTION."""
        if answer[4:6] != _ACTION_HEAD:
            raise RuntimeError(f"expected ACTION, got {answer[:200]!r}")

    def hello(self, spec: GameSpec) -> None:
        """Shake hands; returns when WELCOME came."""
        fields = HelloFields(
            protocol=1,
            client="bench/1",
            game=spec.game,
            observation=spec.observation,
            actions=spec.actions,
        )
        self.sock.sendall(codec.encode_hello(fields))
        self.sock.settimeout(60)
        length = int.from_bytes(_exactly(self.sock, 4), "big")
        answer = codec.decode_server(_exactly(self.sock, length))
        if type(answer).__name__ != "Welcome":
            raise RuntimeError(f"expected WELCOME, got {answer}")

    def send(self, now: float) -> None:
        """The next frame."""
        struct.pack_into(">I", self.message, self.seq_at, self.seq)
        self.message[self.status_at] = self.seq % EPISODE_FRAMES == EPISODE_FRAMES - 1
        self.seq += 1
        self.sent_at = now
        self.sock.send(self.message)


class _OlderGame:
    """A client in the older format of Tempest."""

    def __init__(self, address: tuple[str, int], spec: GameSpec, rng: np.random.Generator) -> None:
        self.sock = socket.create_connection(address)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.seq = 0
        self.sent_at = 0.0
        self.message = _older_frame(spec, rng)
        self._done_at = LENGTH_BYTES + _offset("done")
        self._frame_at = LENGTH_BYTES + _offset("frame")

    def check(self, answer: bytes) -> None:
        """Errors: RuntimeError if this is no reply."""
        if len(answer) != _REPLY_BYTES:
            raise RuntimeError(f"expected a reply of {_REPLY_BYTES} bytes, got {answer[:200]!r}")

    def hello(self, _spec: GameSpec) -> None:
        """Begin, and play one frame: its reply is what tells that the server is ready."""
        self.sock.sendall(LEAD)
        self.send(0.0)
        self.sock.settimeout(60)
        self.check(_exactly(self.sock, _REPLY_BYTES))

    def send(self, now: float) -> None:
        """The next frame."""
        self.message[self._done_at] = self.seq % EPISODE_FRAMES == EPISODE_FRAMES - 1
        struct.pack_into(">H", self.message, self._frame_at, self.seq & 0xFFFF)
        self.seq += 1
        self.sent_at = now
        self.sock.send(self.message)


def _offset(name: str) -> int:
    """Where a field of the older format's header stands."""
    assert HEADER.fields is not None
    return HEADER.fields[name][1]


def _older_frame(spec: GameSpec, rng: np.random.Generator) -> bytearray:
    """A frame in the older format with random values, whose expert aims at something."""
    header = np.zeros(1, HEADER)
    header["n"] = spec.observation_size
    header["objective"], header["subjective"] = 50.0, -1.0
    header["target"], header["player"] = rng.integers(16, size=2)
    header["expert_fire"] = 1
    values = rng.uniform(-1, 1, spec.observation_size).astype(">f4")
    payload = header.tobytes() + values.tobytes()
    return bytearray(len(payload).to_bytes(LENGTH_BYTES, "big") + payload)


def _frame(spec: GameSpec, rng: np.random.Generator) -> bytearray:
    """A FRAME with random observation and recommendation."""
    obs = rng.standard_normal(spec.observation_size, dtype=np.float32).tobytes()
    choice = int(rng.integers(spec.discrete[0].n))
    # seq is given as a number that needs the 4-byte form, so that every seq fits its place.
    return bytearray(framed(msgspec.msgpack.encode((2, 0, 2**32 - 1, obs, 0.5, 0, [choice], None))))


def run_load(
    address: tuple[str, int],
    spec: GameSpec,
    clients: int,
    seconds: float,
    *,
    warmup_s: float = 1.0,
    handshake: bool = True,
    tempest: bool = False,
) -> LoadResult:
    """Play `clients` games in lock step (each sends its next frame when its answer came) for
    `seconds` after `warmup_s`. Without `handshake` any answer of any server counts as one.
    `tempest`: in the older format of Tempest's clients."""
    rng = np.random.default_rng(0)
    kind = _OlderGame if tempest else _Game
    games: list[_Game | _OlderGame] = [kind(address, spec, rng) for _ in range(clients)]
    by_file = {game.sock.fileno(): game for game in games}
    poll = select.epoll()
    for game in games:
        if handshake:
            game.hello(spec)
        game.sock.setblocking(False)
        poll.register(game.sock, select.EPOLLIN)
    latencies: list[float] = []
    clock = time.perf_counter
    begin = clock() + warmup_s
    end = begin + seconds
    worst, last = 0.0, begin
    for game in games:
        game.send(clock())
    while True:
        events = poll.poll(5)
        now = clock()
        if not events:
            raise TimeoutError("expected an answer within 5 s, got none")
        if now >= begin:
            if now - last > worst and last > begin:
                worst = now - last
            last = now
            if now >= end:
                break
        for file, _ in events:
            game = by_file[file]
            answer = game.sock.recv(4096)
            if handshake:
                game.check(answer)
            now = clock()
            if now >= begin:
                latencies.append(now - game.sent_at)
            game.send(now)
    for game in games:
        game.sock.close()
    poll.close()
    p50, p99 = np.percentile(latencies, [50, 99]) * 1e3
    took = now - begin
    return LoadResult(
        len(latencies), took, len(latencies) / took, float(p50), float(p99), worst * 1e3
    )


def load_process(pipe: Pipe, *args: Any, **kwargs: Any) -> None:
    """`run_load` as a process's entry; sends its result, or the exception."""
    try:
        pipe.send(run_load(*args, **kwargs))
    except Exception as error:
        pipe.send(error)


def _exactly(sock: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        more = sock.recv(n - len(data))
        if not more:
            raise ConnectionError("the server closed the connection")
        data += more
    return data
