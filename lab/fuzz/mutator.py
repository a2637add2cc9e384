"""Hostile streams of bytes, made from messages that are right by mutations.

A stream is what a client sends on one connection, in the protocol or in the older format of
Tempest's clients.
"""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from protocol import codec
from protocol.framing import LENGTH_BYTES, framed
from protocol.messages import HelloFields
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from protocol.tempest import HEADER, LEAD
from protocol.tempest_headers import HEADERS, PLAYING, Header

GOLDEN = Path(__file__).parents[2] / "tests/golden/wire.json"
"""Every message as bytes; seeds too, in a checkout."""

PROTOCOL, TEMPEST = 0, 1
KINDS = {PROTOCOL: "protocol", TEMPEST: "tempest"}

SPECS = (
    GameSpec("fuzz", Observation("float32", (3,)), (Discrete("a", 4), Continuous("b", -1, 1, 2))),
    GameSpec("dots", Observation("uint8", (2, 2)), (Continuous("c", 0.1, 0.3, 1),), ("x", "y")),
    GameSpec(
        "rover",
        (
            Observation("uint8", (5, 5), "camera", "picture", 0.0, 1.0),
            Observation("float16", (2,), "speed"),
            Observation("int64", (2,), "cards", "choices", n=(4, 13)),
            Observation("bool", (3,), "keys"),
        ),
        (Discrete("move", 3),),
    ),
    GameSpec(
        "board", Observation("float32", (2,)), (Discrete("x", 3), Discrete("y", 7)), masks=True
    ),
)

_EDGES = (0, 1, -1, 127, 128, 255, 256, -32, -33, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1,
          2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))  # fmt: skip
_FLOATS = (
    0.0,
    -0.0,
    1e9,
    1.0000001e9,
    -1e9,
    3.5e38,
    1e308,
    float("nan"),
    float("inf"),
    -float("inf"),
)
_WORDS = ("", "x" * 65, "\x00", "\u202e", "é" * 40, "discrete", "eval_expert", "a\nb", "train")


class Mutator:
    """Makes streams, each from a generator of its own: (seed, number) is the stream."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._messages = _messages()
        self._games = [_game(spec) for spec in SPECS]
        self._older = [_older_game(values, form) for values in (1, 4, 195) for form in HEADERS]

    def make(self, number: int) -> tuple[int, bytes, random.Random]:
        """The kind of a stream, its bytes, and a generator for splitting it."""
        rng = random.Random(self._seed << 64 | number)
        kind = TEMPEST if rng.random() < 0.25 else PROTOCOL
        return kind, self.mutated(kind, rng), rng

    def mutated(self, kind: int, rng: random.Random) -> bytes:
        """A stream of this kind."""
        if rng.random() < 0.02:
            return rng.randbytes(rng.choice((1, 4, 40, 400)))
        if kind == TEMPEST:
            return self._tempest(rng)
        messages = list(rng.choice(self._games))
        # Most begin as they should: what is refused at once teaches nothing about the rest.
        start = 0 if rng.random() < 0.3 else 1
        for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 4))):
            at = rng.randint(min(start, len(messages)), len(messages))
            act = rng.random()
            if act < 0.15:
                messages.insert(at, rng.choice(self._messages))
            elif act < 0.25 and at < len(messages):
                del messages[at]
            elif act < 0.35 and messages:
                messages.insert(at, rng.choice(messages))
            elif at < len(messages):
                messages[at] = self._changed(messages[at], rng)
        data = b"".join(framed(message) for message in messages if message)
        return _scratched(data, rng) if rng.random() < 0.35 else data

    def _changed(self, payload: bytes, rng: random.Random) -> bytes:
        """A message with another content whose length is right all the same."""
        if rng.random() < 0.5:
            return _scratched(payload, rng)
        try:
            value = msgspec.msgpack.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _scratched(payload, rng)
        return msgspec.msgpack.encode(_altered(value, rng))

    def _tempest(self, rng: random.Random) -> bytes:
        frames = [bytearray(frame) for frame in rng.choice(self._older)]
        lead = LEAD if rng.random() < 0.95 else rng.randbytes(2)
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            frame = rng.choice(frames)
            at = rng.randrange(len(frame))
            act = rng.random()
            if act < 0.4:
                frame[at] ^= 1 << rng.randrange(8)
            elif act < 0.6:
                frame[0:2] = rng.choice((0, 1, 32, 36, 37, 40, 816, 65_535)).to_bytes(2, "big")
            elif act < 0.8 and len(frame) >= 24:
                where = rng.choice((4, 12, 2 + HEADER.itemsize))
                frame[where : where + 8] = struct.pack(">d", rng.choice(_FLOATS))
            elif act < 0.9:
                frames.insert(rng.randrange(len(frames)), bytearray(frame))
            else:
                del frame[at:]
                if not frame:
                    frame[:] = b"\x00"
        return lead + b"".join(frames)


def _scratched(data: bytes, rng: random.Random) -> bytes:
    """Bytes that were changed without regard to what they mean."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(out) + 1)
        act = rng.randrange(9)
        if act == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif act == 1 and at < len(out):
            out[at] = rng.choice((0x00, 0x7F, 0x80, 0x90, 0xC0, 0xC1, 0xC4, 0xCB, 0xD9, 0xDF, 0xFF))
        elif act == 2:
            out[at:at] = rng.randbytes(rng.randint(1, 8))
        elif act == 3:
            del out[at : at + rng.randint(1, 8)]
        elif act == 4:
            out[at : at + 4] = rng.choice(_EDGES).to_bytes(9, "big", signed=True)[-4:]
        elif act == 5:
            out[at : at + 9] = b"\xcb" + struct.pack(">d", rng.choice(_FLOATS))
        elif act == 6:
            del out[at:]
        elif act == 7:
            out[at:at] = out[at : at + rng.randint(1, 64)]
        else:
            nest = rng.choice(
                (b"\x91", b"\x81\xa0", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff")
            )
            out[at:at] = nest * rng.choice((1, 30, 1200))
    return bytes(out)


def _altered(value: Any, rng: random.Random) -> Any:
    """A value of msgpack with one part of it another."""
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        return [*value[:at], _altered(value[at], rng), *value[at + 1 :]]
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        act = rng.random()
        if act < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if act < 0.2:
            return value | {str(key) + "x": value[key]}
        return value | {key: _altered(value[key], rng)}
    if isinstance(value, bytes) and rng.random() < 0.8:
        return _scratched(value, rng)
    return rng.choice(
        (rng.choice(_EDGES), rng.choice(_FLOATS), rng.choice(_WORDS), None, True, [], {},
         [value], [value] * 70, {"a": value}, b"", b"\xff" * 12, rng.randint(-300, 300))
    )  # fmt: skip


def _messages() -> list[bytes]:
    """Messages that are right somewhere, without their lengths."""
    found = [message for spec in SPECS for message in _game(spec)]
    found += [msgspec.msgpack.encode(m) for m in ([4, None], [4, {"a": [1] * 50}], [5], [99], 7)]
    if GOLDEN.exists():
        golden = json.loads(GOLDEN.read_text())
        for entry in (*golden["valid"], *golden["invalid"]):
            data = bytes.fromhex(entry["hex"])
            if len(data) > LENGTH_BYTES:
                found.append(data[LENGTH_BYTES:])
    return found


def _game(spec: GameSpec) -> list[bytes]:
    """What a client of a game with two slots sends, without lengths: HELLO, frames, PING, BYE."""
    fields = HelloFields(
        protocol=1,
        client="fuzz/1",
        game=spec.game,
        observation=spec.observation,
        actions=spec.actions,
        rewards=spec.rewards,
        slots=2,
        masks=bool(spec.masks),
    )
    obs = bytes(spec.observation_bytes)
    action = [0 if isinstance(head, Discrete) else [head.high] * head.size for head in spec.actions]
    reward: Any = 0.5 if len(spec.rewards) == 1 else [0.5] * len(spec.rewards)
    messages: list[Any] = [[2, slot, 0, obs, reward, 0, action, None] for slot in (0, 1)]
    messages += [
        [2, 0, 1, obs, reward, 0, None, [action, 2]],
        [2, 0, 2, obs, reward, 1, None, None],
    ]
    if spec is SPECS[1]:
        rewards = np.zeros(2 * len(spec.rewards), "<f4").tobytes()
        rows = np.tile(np.full(spec.action_width, 0.2, "<f4"), 2).tobytes()
        messages = [
            [3, seq, obs * 2, rewards, bytes(2), rows, [rows, b"\x01\x02"] if seq else None]
            for seq in range(3)
        ]
    if spec.masks:
        mask = b"\x0d\x03"
        messages = [[*message, mask] for message in messages]
        messages += [[2, 1, seq, obs, reward, 0, action, None, None] for seq in (1, 2)]
    hello = codec.encode_hello(fields)[LENGTH_BYTES:]
    return [hello, *(msgspec.msgpack.encode(m) for m in [*messages, [4, 1], [5]])]


def _older_game(values: int, form: Header) -> list[bytes]:
    """Frames of an older client for Tempest, with their lengths."""
    frames = []
    for number in range(3):
        header = np.zeros(1, form.dtype)
        header["n"], header[form.rewards[0]], header["done"] = values, 1.5, number == 1
        header["game_state"], header["game_mode"] = 4, PLAYING
        payload = header.tobytes() + np.linspace(-1, 1, values).astype(">f4").tobytes()
        frames.append(len(payload).to_bytes(2, "big") + payload)
    return frames
