"""An older client for Tempest, written from the format's description alone: it may say what is not
allowed."""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Callable
from typing import Any, Self

import numpy as np

HEADER = struct.Struct(">HddBBBHIBBBhhBBBBB")

OLD_HEADER = struct.Struct(">HdddBBBHIBBBhBhBBBBB")
"""Of the clients of 2025-10-09."""


def payload(
    values: list[float],
    *,
    subjective: float = 0.0,
    objective: float = 0.0,
    done: int = 0,
    save: int = 0,
    target: int = -1,
    player: int = 0,
    is_open: int = 0,
    fire: int = 0,
    zap: int = 0,
    n: int | None = None,
    frame: int = 0,
    told: tuple[int, ...] = (0, 0, 0),
    state: int = 4,
    mode: int = 0x80,
    score: int | None = None,
    level: int = 9,
) -> bytes:
    """A frame without its length. `n`: what it says of the number of values, if not the truth;
    `told`: what it says of the last reply."""
    head = HEADER.pack(
        len(values) if n is None else n, subjective, objective,
        state, mode, done, frame % 65536, 1000 + frame if score is None else score, save, *told,
        target, player, is_open, fire, zap, level,
    )  # fmt: skip
    return head + np.array(values, ">f4").tobytes()


def old_payload(
    values: list[float],
    *,
    total: float = 0.0,
    subjective: float = 0.0,
    objective: float = 0.0,
    done: int = 0,
    target: int = -1,
    player: int = 0,
    is_open: int = 0,
    fire: int = 0,
    zap: int = 0,
    told: tuple[int, ...] = (0, 0, 0),
    state: int = 4,
    mode: int = 0x80,
    attract: int = 0,
    score: int = 1000,
    level: int = 9,
) -> bytes:
    """A frame of the clients of 2025-10-09, without its length."""
    head = OLD_HEADER.pack(
        len(values), total, subjective, objective, state, mode, done, 1, score, 0, *told,
        attract, target, player, is_open, fire, zap, level,
    )  # fmt: skip
    return head + np.array(values, ">f4").tobytes()


def framed(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


class TempestClient:
    """Connects, says 00 00, and sends frames."""

    def __init__(self, port: int, *, reply_bytes: int = 5, lead: bytes = b"\x00\x00") -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=40.0)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reply_bytes = reply_bytes
        self.told = (0, 0, 0)
        """The last reply, as it understood it."""
        self.sock.sendall(lead)

    def raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reply(self) -> tuple[int, ...] | None:
        """The next reply: fire, zap, knob and what follows; None at the end of the connection."""
        data = b""
        while len(data) < self.reply_bytes:
            piece = self.sock.recv(self.reply_bytes - len(data))
            if not piece:
                assert not data, "the connection ended within a reply"
                return None
            data += piece
        return struct.unpack("bbbBB"[: self.reply_bytes], data)

    def frame(self, values: list[float], **header: Any) -> tuple[int, ...] | None:
        """Send a frame and wait for its reply."""
        self.raw(framed(payload(values, **header)))
        return self.reply()

    def play(self, frame: Callable[..., bytes], values: list[float], **header: Any) -> Any:
        """Send a frame, made by `frame`, that repeats the last reply; wait for its reply."""
        self.raw(framed(frame(values, told=self.told, **header)))
        reply = self.reply()
        if reply is not None:
            self.told = (reply[0] & 0xFF, reply[1] & 0xFF, reply[2])
        return reply

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


VALUES = [0.25, -1.0, 1.0]

HOSTILE: dict[str, tuple[bytes, str, str]] = {
    "length 0": (b"\x00\x00", "message_empty", "got a length of 0"),
    "huge length": (b"\xff\xff" + bytes(100), "observation_size", "got a length of 65535"),
    "short length": (b"\x00\x05" + bytes(5), "observation_size", "got a length of 5"),
    "another n": (framed(payload(VALUES * 2)), "observation_size", "of 3 values"),
    "n that lies": (framed(payload(VALUES, n=4)), "message_malformed", "got n = 4"),
    "n of 0": (framed(payload(VALUES, n=0)), "message_malformed", "got n = 0"),
    "NaN": (framed(payload([0, math.nan, 0])), "observation_not_finite", "got nan as value 1"),
    "infinity": (framed(payload([0, 0, -math.inf])), "observation_not_finite", "-inf as value 2"),
    "out of range": (framed(payload([1.5, 0, 0])), "observation_not_finite", "got 1.5 as value 0"),
    "hardly": (framed(payload([0, np.nextafter(np.float32(-1), np.float32(-2)), 0])),
               "observation_not_finite", "as value 1"),
    "done of 2": (framed(payload(VALUES, done=2)), "unknown_status", "got 2"),
    "NaN reward": (framed(payload(VALUES, objective=math.nan)), "reward_not_finite", "objective"),
    "endless reward": (framed(payload(VALUES, subjective=-1e300)), "reward_not_finite",
                       "subjective"),
}  # fmt: skip
"""What is no frame: bytes, the code of the refusal, and words of its message."""
