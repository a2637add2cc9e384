"""lab/bench/serving.py: what it compares with; clients that send the frames of slots together."""

from __future__ import annotations

import socket
from dataclasses import replace

import numpy as np
import pytest

from lab.bench.serving import REPLY_BYTES, REPLY_BYTES_OF_SLOT, SHAPES, Round, Serving, Shape
from lab.load.clients import bench_spec, frame_bytes, slots_client
from lab.load.generator import LoadResult
from protocol import codec
from protocol.framing import LENGTH_BYTES
from protocol.messages import Actions, Frames

SPEC = bench_spec(5, 3)


def test_shapes_are_read_with_and_without_slots() -> None:
    assert Shape.of("32x195") == Shape(32, 195)
    assert Shape.of("2x64x195") == Shape(2, 195, 64)
    assert [Shape.of(text).frames for text in SHAPES] == [32, 8, 128, 128]


def test_limit_adds_the_echo_and_the_forward_pass_of_a_frame() -> None:
    seen = LoadResult(1000, 1.0, 1000.0, 10.0, 40.0, 60.0, 1500, frame_us=800.0)
    echo = replace(seen, fps=10_000.0, frame_us=80.0)  # 0.1 ms a frame, 0.08 of them computing
    one = Round(echo, 4 * 4e-4, seen, seen, seen, 5.0, 10.0, seen, 1)  # 0.4 ms a frame
    assert one.limit_fps(4) == pytest.approx(2000)
    found = Serving(Shape(4, 5), rounds=[one, one, one])
    training, alone, *_ = found.rows({"batch_size": 7})
    for row in (training, alone):
        assert (row["limit_fps"], row["forward_us"], row["fps_of_limit"]) == (2000, 400.0, 0.5)
        # Four clients' frames take 2 ms at the limit.
        assert row["p99_of_limit"] == 20.0
        assert (row["frame_us"], row["echo_us"], row["limit_of_us"]) == (800.0, 80.0, 0.6)
    assert (training["clients"], training["slots"], training["observations"]) == (4, 1, 5)


class Pipe:
    """What a client's socket is asked for: keeps what is sent, in parts, and says what it is told
    to."""

    def __init__(self) -> None:
        self.sent, self.answer = bytearray(), b""

    def setsockopt(self, *_: int) -> None:
        pass

    def setblocking(self, _: bool) -> None:
        pass

    def send(self, data: bytes) -> int:
        self.sent += data[:50]
        return len(self.sent)

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def recv(self, _: int) -> bytes:
        return self.answer


def test_client_of_slots_sends_frames_and_takes_their_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe = Pipe()
    monkeypatch.setattr(socket, "create_connection", lambda _: pipe)
    client = slots_client(4)(("nowhere", 1), SPEC, np.random.default_rng(0))
    for seq in range(2):
        pipe.sent.clear()
        client.send(0.0)
        assert len(pipe.sent) == frame_bytes(SPEC, 4)
        frames = codec.decode_client(bytes(pipe.sent[LENGTH_BYTES:]))
        assert isinstance(frames, Frames)
        assert frames.seq == seq
        assert (len(frames.obs), len(frames.rewards)) == (4 * 5 * 4, 4 * 4)
        assert bytes(frames.statuses) == bytes(4)
        pipe.answer = codec.encode(Actions(seq, bytes(16), b"\1" * 4, 7, bytes(4)))
        answer = client.receive()
        assert abs(len(answer) - REPLY_BYTES - 4 * REPLY_BYTES_OF_SLOT) < 12
    pipe.answer = b"no answer to frames"
    with pytest.raises(RuntimeError, match="an answer to its frames"):
        client.receive()
