#!/usr/bin/env python3
"""Write tests/golden/wire.json: messages as bytes, with what they mean, for any implementation.

The bytes are made by the few lines of msgpack below and not by the library that the server uses,
so that the two check each other. Needs nothing but Python.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "tests" / "golden" / "wire.json"

NOTE = (
    "hex: whole messages with their length prefix. A tensor in `message` is {bin: hex}; `tensors` "
    "gives its numbers, null for NaN. valid: `canonical` is false where another encoding of the "
    "same message is the usual one; a reader must take both. `game` names the HELLO before it. "
    "invalid: what a server must refuse, and the code of its ERROR. `before` are the messages sent "
    "before; the last of them is answered (WELCOME, ACTION) unless `answered` is false. `token` is "
    "the server's. `eof`: the client closes behind the bytes."
)


class Raw(bytes):
    """Msgpack that stands as it is."""


def packed(value: Any) -> bytes:
    """`value` as msgpack, in the shortest form; floats as float64."""
    match value:
        case Raw():
            return bytes(value)
        case None | False | True:
            return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
        case int():
            return _packed_int(value)
        case float():
            return struct.pack(">Bd", 0xCB, value)
        case str():
            data = value.encode()
            return _head(len(data), 0xA0, 31, (0xD9, 0xDA, 0xDB)) + data
        case bytes():
            return _head(len(value), None, 0, (0xC4, 0xC5, 0xC6)) + value
        case list() | tuple():
            return _head(len(value), 0x90, 15, (None, 0xDC, 0xDD)) + b"".join(map(packed, value))
        case dict():
            items = b"".join(packed(key) + packed(item) for key, item in value.items())
            return _head(len(value), 0x80, 15, (None, 0xDE, 0xDF)) + items
    raise TypeError(type(value))


def _packed_int(value: int) -> bytes:
    if 0 <= value < 128:
        return bytes([value])
    if -32 <= value < 0:
        return bytes([256 + value])
    for code, form, low, high in (
        (0xCC, "B", 0, 2**8), (0xCD, "H", 0, 2**16), (0xCE, "I", 0, 2**32), (0xCF, "Q", 0, 2**64),
        (0xD0, "b", -(2**7), 0), (0xD1, "h", -(2**15), 0), (0xD2, "i", -(2**31), 0),
    ):  # fmt: skip
        if low <= value < high:
            return struct.pack(f">B{form}", code, value)
    return struct.pack(">Bq", 0xD3, value)


def _head(count: int, short: int | None, most: int, long: tuple[int | None, int, int]) -> bytes:
    if short is not None and count <= most:
        return bytes([short | count])
    for code, form, limit in zip(long, "BHI", (2**8, 2**16, 2**32), strict=True):
        if code is not None and count < limit:
            return struct.pack(f">B{form}", code, count)
    raise ValueError(count)


def message(*elements: Any) -> bytes:
    """A message as it travels: the length, then the array."""
    return framed(packed(elements))


def framed(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def f32(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


# The games that the examples play.

LANDER = {
    "protocol": 1,
    "client": "example/1.0",
    "game": "lander",
    "observation": ["float32", [3]],
    "actions": [["discrete", "engine", 2], ["continuous", "lateral", -1.0, 1.0, 1]],
}
ARCADE = {
    "protocol": 1,
    "client": "example/1.0",
    "game": "arcade",
    "observation": ["uint8", [2, 2]],
    "actions": [
        ["discrete", "fire", 2],
        ["continuous", "aim", -0.5, 0.5, 2],
        ["discrete", "move", 5],
    ],
    "rewards": ["score", "lives"],
    "slots": 2,
    "token": None,
    "role": "train",
}
ROVER = {
    "protocol": 1,
    "client": "example/1.0",
    "game": "rover",
    "observation": [
        {"dtype": "uint8", "shape": [5, 2, 5], "name": "camera", "kind": "picture", "low": 0.0,
         "high": 1.0, "channels": [1]},
        {"dtype": "float32", "shape": [2], "name": "speed"},
        {"dtype": "int64", "shape": [1], "name": "place", "kind": "choice", "n": 9},
        {"dtype": "uint8", "shape": [2], "name": "cards", "kind": "choices", "n": [4, 13]},
    ],
    "actions": [["discrete", "move", 3]],
    "slots": 2,
}  # fmt: skip
RUNNER = {
    "protocol": 1,
    "client": "example/1.0",
    "game": "runner",
    "observation": ["float32", [2]],
    "actions": [["discrete", "jump", 2]],
    "metrics": ["coins", "height"],
}

PUZZLE = {
    "protocol": 1,
    "client": "example/1.0",
    "game": "puzzle",
    "observation": ["float32", [1]],
    "actions": [
        ["discrete", "row", 3],
        ["continuous", "push", -1.0, 1.0, 1],
        ["discrete", "column", 7],
    ],
    "masks": True,
}
# Keys that came later are told only where they are sent.
DEFAULTS = {"rewards": ["reward"], "slots": 1, "token": None, "role": "train"}
HELLOS = {
    "lander": LANDER,
    "arcade": ARCADE,
    "lander eval": LANDER | {"role": "eval"},
    "lander eval_expert": LANDER | {"role": "eval_expert"},
    "lander play": LANDER | {"role": "play", "policy": "recent:5", "explores": True},
    "arcade eval_expert": ARCADE | {"role": "eval_expert"},
    "rover": ROVER,
    "puzzle": PUZZLE,
    "puzzle of two": PUZZLE | {"slots": 2},
    "runner": RUNNER,
    "runner of two": RUNNER | {"slots": 2},
    "board": PUZZLE | {"game": "board", "actions": [PUZZLE["actions"][0], PUZZLE["actions"][2]]},
}

NAN = math.nan
OBS = f32(0.5, -1.0, 2.0)
PIXELS = bytes([0, 64, 128, 255])
BOTH = PIXELS + bytes([1, 2, 3, 4])
REWARDS = f32(1.0, 0.0, -0.5, -1.0)
SEEN = bytes(i % 2 for i in range(50)) + f32(0.5, -1.0) + struct.pack("<q", 7) + bytes([3, 12])
"""What the rover sees: camera, speed, place and cards, one behind the other."""
SEEN_BESIDE = bytes(50) + f32(-0.25, 1.0) + struct.pack("<q", 8) + bytes([0, 1])
STATE = f32(0.5)
PLACE = f32(0.5, -2.0)
MASK = bytes([0b0001_0101, 0b10])
"""Choices 0 and 2 of the first head, 1 and 6 of the second."""

FIELDS = {
    "FRAME": ("slot", "seq", "obs", "reward", "status", "expert", "took", "legal", "metrics"),
    "FRAMES": ("seq", "obs", "rewards", "statuses", "experts", "took", "legal", "metrics"),
    "PING": ("nonce",),
    "BYE": (),
    "ACTION": ("slot", "seq", "action", "actor", "policy_version", "explored"),
    "ACTIONS": ("seq", "actions", "actors", "policy_version", "explored"),
    "PONG": ("nonce",),
    "ERROR": ("code", "message", "retry"),
    "HELLO": ("fields",),
    "WELCOME": ("fields",),
    "SETTINGS": ("settings",),
}
NUMBERS = {
    "HELLO": 1, "FRAME": 2, "FRAMES": 3, "PING": 4, "BYE": 5,
    "WELCOME": 11, "ACTION": 12, "ACTIONS": 13, "PONG": 14, "ERROR": 15, "SETTINGS": 16,
}  # fmt: skip


def plain(value: Any) -> Any:
    """`value` as JSON holds it."""
    if isinstance(value, bytes):
        return {"bin": value.hex()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def valid(
    name: str,
    kind: str,
    *elements: Any,
    game: str | None = None,
    tensors: dict[str, tuple[str, list[int]]] | None = None,
    data: bytes | None = None,
) -> dict[str, Any]:
    """A vector. `data`: other bytes than the usual ones for the same message."""
    usual = message(NUMBERS[kind], *elements)
    out: dict[str, Any] = {
        "name": name,
        "from": "client" if NUMBERS[kind] < 11 else "server",
        "type": kind,
        "canonical": data is None or data == usual,
    }
    if game is not None:
        out["game"] = game
    out["hex"] = (data or usual).hex()
    # What came later (`legal`, `metrics`) is told where it is sent.
    flat = dict(zip(FIELDS[kind], elements, strict=kind not in ("FRAME", "FRAMES")))
    out["message"] = plain(flat)
    if isinstance(flat.get("took"), tuple):
        flat["took.actions"], flat["took.actors"] = flat["took"]
    if tensors:
        out["tensors"] = {
            key: {"dtype": dtype, "shape": shape, "values": unpacked(dtype, flat[key])}
            for key, (dtype, shape) in tensors.items()
        }
    return out


def unpacked(dtype: str, data: bytes) -> list[float | None]:
    if dtype == "uint8":
        return list(data)
    values = struct.unpack(f"<{len(data) // 4}f", data)
    return [None if math.isnan(value) else value for value in values]


def hello(name: str, fields: dict[str, Any], sent: dict[str, Any] | None = None) -> dict[str, Any]:
    """A HELLO: `fields` is what is meant, `sent` the map that says it."""
    out = valid(name, "HELLO", fields, data=message(1, fields if sent is None else sent))
    out["message"] = {"fields": plain(DEFAULTS | fields)}
    return out


def valid_vectors() -> list[dict[str, Any]]:
    frame = ("FRAME", 0, 0, OBS, 0.0, 0, None, None)
    lander: dict[str, Any] = {"game": "lander", "tensors": {"obs": ("float32", [3])}}
    puzzle: dict[str, Any] = {
        "game": "puzzle",
        "tensors": {"obs": ("float32", [1]), "legal": ("uint8", [2])},
    }
    pixels: dict[str, Any] = {"game": "arcade", "tensors": {"obs": ("uint8", [2, 2])}}
    rows = f32(1, 0.25, -0.5, 4, NAN, 0, 0, 0)
    took = (f32(NAN, 0, 0, 0, 0, 0.5, 0, 2), bytes([0, 2]))
    all_slots = {
        "obs": ("uint8", [2, 2, 2]), "rewards": ("float32", [2, 2]), "statuses": ("uint8", [2]),
    }  # fmt: skip
    return [
        *(hello(f"hello {name}", fields) for name, fields in HELLOS.items()),
        hello("hello with a token", LANDER | {"token": "secret"}),
        hello("hello of a game in real time", LANDER | {"realtime": True}),
        hello("hello of a game that evaluates", LANDER | {"evaluates": True}),
        hello("hello of the newest network as an opponent", LANDER | {"role": "play"}),
        hello("hello with announced episodes", LANDER | {"role": "eval", "episodes": 20}),
        hello(
            "hello with unknown keys",
            LANDER,
            {"colour": [1, {"deep": None}], **LANDER, "legal": b"\x01"},
        ),
        hello(
            "hello, keys in another order, whole numbers for bounds",
            LANDER,
            dict(reversed(LANDER.items()))
            | {"actions": [["discrete", "engine", 2], ["continuous", "lateral", -1, 1, 1]]},
        ),
        hello(
            "hello with elements behind the last ones",
            LANDER,
            LANDER
            | {
                "observation": ["float32", [3], "NCHW"],
                "actions": [
                    ["discrete", "engine", 2, "mask"],
                    ["continuous", "lateral", -1.0, 1.0, 1, None],
                ],
            },
        ),
        valid("frame", *frame, **lander),
        valid("frame of several observations", "FRAME", 1, 0, SEEN, 0.0, 0, [2], None,
              game="rover"),
        valid("frames of several observations", "FRAMES", 0, SEEN + SEEN_BESIDE, f32(0, 0),
              bytes(2), None, None, game="rover"),
        valid(
            "frame with a recommendation", "FRAME", 0, 1, OBS, 0.25, 0, [1, -0.5], None, **lander
        ),
        valid(
            "frame with took by a person", "FRAME", 0, 2, OBS, -1.5, 0, None, ([0, 0.75], 2),
            **lander,
        ),
        valid(
            "frame with took by the network", "FRAME", 0, 3, OBS, 0.0, 0, [1, 1.0], ([1, 0.0], 1),
            **lander,
        ),
        valid("frame, terminated", "FRAME", 0, 4, OBS, -100.0, 1, None, None, **lander),
        valid("frame, truncated", "FRAME", 0, 5, OBS, 0.125, 2, None, None, **lander),
        valid("frame, largest seq", "FRAME", 0, 2**32 - 1, OBS, 0.0, 0, None, None, **lander),
        valid(
            "frame with three heads and two reward components",
            "FRAME", 1, 0, PIXELS, [10.0, -1.0], 0, [1, [0.25, -0.5], 4], None,
            **pixels,
        ),
        valid(
            "frame with three heads and took",
            "FRAME", 1, 1, PIXELS, [0.0, 0.0], 0, None, ([0, [0.5, 0.5], 2], 2),
            **pixels,
        ),
        valid(
            "frame in the role play", "FRAME", 0, 0, OBS, 0.0, 0, None, None,
            **lander | {"game": "lander play"},
        ),
        valid(
            "frame in the role eval", "FRAME", 0, 0, OBS, 0.0, 0, None, None,
            **lander | {"game": "lander eval"},
        ),
        valid(
            "frame in the role eval_expert", "FRAME", 0, 0, OBS, 0.0, 0, [0, 0.5], None,
            **lander | {"game": "lander eval_expert"},
        ),
        valid(
            "frame with elements behind the last one", *frame, **lander,
            data=message(2, 0, 0, OBS, 0.0, 0, None, None, [1, 1], {"mask": b"\x03"}),
        ),
        valid(
            "frame, reward as an integer", "FRAME", 0, 0, OBS, 3.0, 0, None, None, **lander,
            data=message(2, 0, 0, OBS, 3, 0, None, None),
        ),
        valid(
            "frame, reward as float32", "FRAME", 0, 0, OBS, 0.5, 0, None, None, **lander,
            data=message(2, 0, 0, OBS, Raw(struct.pack(">Bf", 0xCA, 0.5)), 0, None, None),
        ),
        valid(
            "frame, reward as a list of one", "FRAME", 0, 0, OBS, [0.5], 0, None, None, **lander
        ),
        valid(
            "frame, continuous part as a list of one",
            "FRAME", 0, 0, OBS, 0.0, 0, [1, [-0.5]], None, **lander,
        ),
        valid(
            "frame, long forms of short values", *frame, **lander,
            data=framed(
                b"\xdc\x00\x08" + packed(2) + b"\xcc\x00" + b"\xce\x00\x00\x00\x00"
                + b"\xc5\x00\x0c" + OBS + packed(0.0) + b"\xd3" + bytes(8) + packed(None) * 2
            ),
        ),
        valid(
            "frames", "FRAMES", 0, BOTH, f32(0, 0, 0, 0), bytes([0, 0]), None, None,
            game="arcade", tensors=all_slots,
        ),
        valid(
            "frames, a recommendation for one slot of two",
            "FRAMES", 1, BOTH, REWARDS, bytes([0, 0]), rows, None,
            game="arcade", tensors=all_slots | {"experts": ("float32", [2, 4])},
        ),
        valid(
            "frames, took in one slot of two",
            "FRAMES", 2, BOTH, REWARDS, bytes([0, 0]), None, took,
            game="arcade",
            tensors=all_slots
            | {"took.actions": ("float32", [2, 4]), "took.actors": ("uint8", [2])},
        ),
        valid(
            "frames, slots of different statuses",
            "FRAMES", 3, BOTH, REWARDS, bytes([1, 2]), None, None,
            game="arcade", tensors=all_slots,
        ),
        valid(
            "frames in the role eval_expert",
            "FRAMES", 0, BOTH, f32(0, 0, 0, 0), bytes([0, 0]), f32(1, 0, 0, 1, 0, 0, 0, 2), None,
            game="arcade eval_expert",
            tensors=all_slots | {"experts": ("float32", [2, 4])},
        ),
        valid(
            "frames with elements behind the last one",
            "FRAMES", 0, BOTH, f32(0, 0, 0, 0), bytes([0, 0]), None, None,
            game="arcade", tensors=all_slots,
            data=message(3, 0, BOTH, f32(0, 0, 0, 0), bytes(2), None, None, b"\x01"),
        ),
        valid(
            "frame with a mask", "FRAME", 0, 0, STATE, 0.0, 0, [2, 1], None, MASK, game="board",
            tensors={"obs": ("float32", [1]), "legal": ("uint8", [2])},
        ),
        valid(
            "frame with a mask of a game with a continuous head", "FRAME", 0, 0, STATE, 0.0, 0,
            [0, 0.25, 6], None, MASK,
            **puzzle,
        ),
        valid(
            "frame with a mask whose last bits mean nothing", "FRAME", 0, 0, STATE, 0.0, 0, None,
            None, bytes([MASK[0], MASK[1] | 0xFC]),
            **puzzle,
        ),
        valid(
            "frame with nil for a mask", "FRAME", 0, 1, STATE, 1.0, 0, [1, 0.0, 5], None,
            game="puzzle", tensors={"obs": ("float32", [1])},
            data=message(2, 0, 1, STATE, 1.0, 0, [1, 0.0, 5], None, None),
        ),
        valid(
            "frame without a mask in a game with masks", "FRAME", 0, 1, STATE, 1.0, 0, None, None,
            game="puzzle", tensors={"obs": ("float32", [1])},
        ),
        valid(
            "frame, terminated, nothing is legal", "FRAME", 0, 2, STATE, -1.0, 1, None, None,
            bytes(2),
            **puzzle,
        ),
        valid(
            "frame with a mask and elements behind it", "FRAME", 0, 0, STATE, 0.0, 0, None, None,
            MASK,
            **puzzle,
            data=message(2, 0, 0, STATE, 0.0, 0, None, None, MASK, {"later": 1}),
        ),
        valid(
            "frames with masks", "FRAMES", 0, STATE * 2, f32(0, 0), bytes([0, 1]),
            f32(2, 0.5, 1, NAN, 0, 0), None, MASK + bytes(2),
            game="puzzle of two",
            tensors={
                "obs": ("float32", [2, 1]), "rewards": ("float32", [2]), "statuses": ("uint8", [2]),
                "experts": ("float32", [2, 3]), "legal": ("uint8", [2, 2]),
            },
        ),
        valid(
            "frame with metrics", "FRAME", 0, 0, PLACE, 0.0, 0, None, None, None, [3.0, -1.5],
            game="runner", tensors={"obs": ("float32", [2])},
        ),
        valid(
            "frame with one metric of two", "FRAME", 0, 1, PLACE, 1.0, 1, None, None, None,
            [None, 2.25],
            game="runner", tensors={"obs": ("float32", [2])},
        ),
        valid(
            "frame without metrics in a game with metrics", "FRAME", 0, 1, PLACE, 1.0, 0, [1], None,
            game="runner", tensors={"obs": ("float32", [2])},
        ),
        valid(
            "frames with metrics", "FRAMES", 0, PLACE * 2, f32(0, 0), bytes([0, 1]), None, None,
            None, f32(3, -1.5, NAN, 2.25),
            game="runner of two",
            tensors={
                "obs": ("float32", [2, 2]), "rewards": ("float32", [2]), "statuses": ("uint8", [2]),
                "metrics": ("float32", [2, 2]),
            },
        ),
        valid("ping", "PING", 7),
        valid("ping with nil", "PING", None),
        valid("ping with a string", "PING", "are you there?"),
        valid("ping with a map", "PING", {"at": 1.5, "tags": [1, -1, 300, 70_000]}),
        valid("ping with elements behind the last one", "PING", 7, data=message(4, 7, "later")),
        valid("bye", "BYE"),
        valid("bye with elements behind the last one", "BYE", data=message(5, "later")),
        valid(
            "welcome", "WELCOME",
            {"session": 1, "protocol": 1, "server": "understudy/0.1", "settings": {}},
        ),
        valid(
            "welcome with settings", "WELCOME",
            {
                "session": 4_294_967_297, "protocol": 1, "server": "understudy/0.1",
                "settings": {"start_level": 3, "speed": 1.5, "name": "demo"},
            },
        ),
        valid(
            "welcome of a game of evaluation", "WELCOME",
            {
                "session": 2, "protocol": 1, "server": "understudy/0.1", "settings": {},
                "episode_limit": [30_000, 600.0],
            },
        ),
        valid(
            "welcome with an unknown key", "WELCOME",
            {"session": 1, "protocol": 1, "server": "understudy/0.1", "settings": {}},
            data=message(
                11,
                {"session": 1, "later": [], "protocol": 1, "server": "understudy/0.1",
                 "settings": {}},
            ),
        ),
        valid("action of the network", "ACTION", 0, 0, [1, -0.25], 1, 12, False, game="lander"),
        valid("action, explored", "ACTION", 0, 1, [0, 0.5], 1, 300, True, game="lander"),
        valid("action of the expert", "ACTION", 0, 1, [1, -0.5], 2, 0, False, game="lander"),
        valid("action, none", "ACTION", 0, 4, None, 0, 70_000, False, game="lander"),
        valid(
            "action with three heads", "ACTION", 1, 0, [1, [0.25, -0.5], 4], 2, 12, False,
            game="arcade",
        ),
        valid(
            "action with elements behind the last one",
            "ACTION", 0, 0, [1, -0.25], 1, 12, False, game="lander",
            data=message(12, 0, 0, [1, -0.25], 1, 12, False, 0.5),
        ),
        valid(
            "actions", "ACTIONS", 1, rows[:16] + f32(0, -0.5, 0.5, 3), bytes([2, 1]), 12,
            bytes([0, 1]),
            game="arcade",
            tensors={
                "actions": ("float32", [2, 4]), "actors": ("uint8", [2]),
                "explored": ("uint8", [2]),
            },
        ),
        valid(
            "actions, none for an ended slot",
            "ACTIONS", 3, f32(NAN, NAN, NAN, NAN, 0, 0, 0, 1), bytes([0, 1]), 12, bytes([0, 0]),
            game="arcade",
            tensors={
                "actions": ("float32", [2, 4]), "actors": ("uint8", [2]),
                "explored": ("uint8", [2]),
            },
        ),
        valid("pong", "PONG", 7),
        valid("pong with a map", "PONG", {"at": 1.5, "tags": [1, -1, 300, 70_000]}),
        valid(
            "error", "ERROR", "seq_out_of_order",
            "slot 0: expected seq 1, got 3; it starts at 0 and rises by 1", False,
        ),
        valid("error worth a retry", "ERROR", "server_stopping", "the server is shutting down",
              True),
        valid("settings", "SETTINGS", {"start_level": 5}),
        valid("settings, none", "SETTINGS", {}),
        valid(
            "settings with elements behind the last one", "SETTINGS", {"start_level": 5},
            data=message(16, {"start_level": 5}, 0),
        ),
    ]  # fmt: skip


def invalid(
    code: str, name: str, data: bytes, *before: bytes, answered: bool = True, **more: Any
) -> dict[str, Any]:
    """A vector that a server must refuse with `code`."""
    return {
        "name": name,
        "code": code,
        "before": [item.hex() for item in before],
        "answered": answered,
        "hex": data.hex(),
        **more,
    }


def frame(
    seq: int = 0,
    *,
    slot: Any = 0,
    obs: Any = OBS,
    reward: Any = 0.0,
    status: Any = 0,
    expert: Any = None,
    took: Any = None,
) -> bytes:
    return message(2, slot, seq, obs, reward, status, expert, took)


def frames(
    seq: int = 0,
    *,
    obs: Any = BOTH,
    rewards: Any = REWARDS,
    statuses: Any = bytes(2),
    experts: Any = None,
    took: Any = None,
) -> bytes:
    return message(3, seq, obs, rewards, statuses, experts, took)


def invalid_vectors() -> list[dict[str, Any]]:
    lander, arcade = message(1, LANDER), message(1, ARCADE)
    rover = message(1, ROVER | {"slots": 1})
    expert = message(1, HELLOS["lander eval_expert"])
    experts = message(1, HELLOS["arcade eval_expert"])
    puzzle, puzzles = message(1, PUZZLE), message(1, HELLOS["puzzle of two"])
    head = ["continuous", "x", 0.0, 1.0, 1]

    runner, runners = message(1, RUNNER), message(1, HELLOS["runner of two"])

    def counted(metrics: Any) -> bytes:
        return message(2, 0, 0, PLACE, 0.0, 0, None, None, None, metrics)

    def masked(seq: int, legal: Any, *, expert: Any = None, took: Any = None) -> bytes:
        return message(2, 0, seq, STATE, 0.0, 0, expert, took, legal)

    def hello(name: str, **changed: Any) -> dict[str, Any]:
        return invalid("bad_hello", f"hello, {name}", message(1, LANDER | changed))

    def without(key: str) -> dict[str, Any]:
        fields = {name: value for name, value in LANDER.items() if name != key}
        return invalid("bad_hello", f"hello without {key}", message(1, fields))

    return [
        invalid("not_understudy", "HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        invalid("not_understudy", "HTTP POST", b"POST /metrics HTTP/1.1\r\n\r\n"),
        invalid("not_understudy", "TLS", bytes.fromhex("16030100c8010000c40303") + bytes(16)),
        invalid("not_understudy", "SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
        invalid("message_too_long", "beyond 64 KiB before WELCOME", struct.pack(">I", 65_537)),
        invalid("message_too_long", "beyond 1 MiB", struct.pack(">I", 1_048_577), lander),
        invalid("message_too_long", "HTTP in mid-session", b"GET / HTTP/1.1\r\n\r\n", lander),
        invalid("message_empty", "length 0", bytes(4)),
        invalid("message_empty", "length 0 behind a frame", bytes(4), lander, frame()),
        invalid("message_malformed", "no msgpack", framed(b"\xc1")),
        invalid("message_malformed", "an array that ends too soon", framed(b"\x92\x04")),
        invalid("message_malformed", "two values in a message", framed(packed([5]) * 2)),
        invalid("message_malformed", "nested beyond reason", framed(b"\x91" * 2_000 + b"\x00")),
        invalid(
            "message_malformed", "ping nested beyond reason",
            framed(b"\x92\x04" + b"\x91" * 2_000 + b"\x00"),
        ),
        invalid("message_malformed", "ping without a nonce", message(4), lander),
        invalid("message_malformed", "frame of 7 elements",
                message(2, 0, 0, OBS, 0.0, 0, None), lander),
        invalid("message_malformed", "seq beyond 32 bits", frame(2**32), lander),
        invalid("message_malformed", "seq as a boolean", frame(False), lander),
        invalid("message_malformed", "observation as a string", frame(obs="abcdefghijkl"), lander),
        invalid("message_malformed", "observation as a list", frame(obs=[0.5, -1.0, 2.0]), lander),
        invalid("message_malformed", "reward nil", frame(reward=None), lander),
        invalid("message_malformed", "reward as a string", frame(reward="1"), lander),
        invalid("message_malformed", "a boolean for a choice", frame(expert=[True, 0.0]), lander),
        invalid("message_malformed", "took without an actor",
                frame(1, took=[[0, 0.0]]), lander, frame()),
        invalid("message_malformed", "statuses as a list", frames(statuses=[0, 0]), arcade),
        invalid("message_truncated", "closed within a length", b"\x00\x00", lander, eof=True),
        invalid("message_truncated", "closed within a frame", frame()[:-3], lander, eof=True),
        invalid("unknown_type", "type 99", message(99)),
        invalid("unknown_type", "type 0", message(0), lander),
        invalid("unknown_type", "a server's message", message(14, 1), lander),
        invalid("unknown_type", "a type as a string", message("PING", 1), lander),
        invalid("unknown_type", "a map", framed(packed({"type": 1}))),
        invalid("unknown_type", "an empty array", framed(packed([]))),
        invalid("hello_first", "frame before hello", frame()),
        invalid("hello_first", "frames before hello", frames()),
        invalid("hello_first", "ping before hello", message(4, 1)),
        invalid("hello_first", "bye before hello", message(5)),
        invalid("hello_twice", "hello twice", lander, lander),
        invalid("hello_twice", "hello twice before WELCOME", lander, lander, answered=False),
        invalid("protocol_version", "protocol 2", message(1, LANDER | {"protocol": 2})),
        invalid("protocol_version", "protocol as a string", message(1, LANDER | {"protocol": "1"})),
        invalid("protocol_version", "no protocol", message(1, {})),
        invalid("protocol_version", "a later hello",
                message(1, {"protocol": 2, "game": {"name": "unlike today's"}})),
        invalid("bad_token", "no token", lander, token="secret"),
        invalid("bad_token", "another token", message(1, LANDER | {"token": "guess"}),
                token="secret"),
        invalid("bad_token", "the token comes before all else",
                message(1, {"protocol": 2, "token": "guess"}), token="secret"),
        invalid("bad_hello", "hello with a list", message(1, [1])),
        invalid("bad_hello", "hello, token as a number", message(1, LANDER | {"token": 5})),
        invalid("bad_hello", "hello, a string that is no UTF-8",
                message(1, LANDER | {"game": Raw(b"\xa2\xff\xfe")})),
        without("client"), without("game"), without("observation"), without("actions"),
        hello("game without a name", game=""),
        hello("game with a line break", game="a\nb"),
        hello("client of 65 characters", client="x" * 65),
        hello("dtype float64", observation=["float64", [3]]),
        hello("no shape", observation=["float32", []]),
        hello("five dimensions", observation=["float32", [1, 1, 1, 1, 1]]),
        hello("a side of 0", observation=["float32", [3, 0]]),
        hello("larger than a message", observation=["float32", [2**30, 2**30]]),
        hello("no observations", observation=[]),
        hello("several observations larger than a message", observation=[
            {"dtype": "bool", "shape": [1], "name": "a"},
            {"dtype": "uint8", "shape": [2**30, 2**30], "name": "b", "kind": "choice", "n": 3}]),
        hello("33 observations", observation=[
            {"dtype": "bool", "shape": [1], "name": str(i)} for i in range(33)]),
        hello("two observations of one name", observation=[
            {"dtype": "bool", "shape": [1]}, {"dtype": "uint8", "shape": [1]}]),
        hello("an observation without a shape", observation=[{"dtype": "bool"}]),
        hello("an unknown kind of observation", observation=[
            {"dtype": "bool", "shape": [1], "kind": "sound"}]),
        hello("a choice without a number", observation=[
            {"dtype": "uint8", "shape": [1], "kind": "choice"}]),
        hello("choices of another number of elements", observation=[
            {"dtype": "uint8", "shape": [2], "kind": "choices", "n": [4]}]),
        hello("choices of floats", observation=[
            {"dtype": "float32", "shape": [1], "kind": "choice", "n": 4}]),
        hello("a picture of one side", observation=[
            {"dtype": "uint8", "shape": [64], "kind": "picture"}]),
        hello("bounds of an observation the wrong way round", observation=[
            {"dtype": "uint8", "shape": [1], "low": 1, "high": 0}]),
        hello("no heads", actions=[]),
        hello("an unknown head", actions=[["binary", "x"]]),
        hello("a choice of one", actions=[["discrete", "x", 1]]),
        hello("two heads of one name", actions=[head, head]),
        hello("low above high", actions=[["continuous", "x", 1.0, -1.0, 1]]),
        hello("low equals high as float32", actions=[["continuous", "x", 1.0, 1.0 + 1e-12, 1]]),
        hello("an infinite bound", actions=[["continuous", "x", 0.0, math.inf, 1]]),
        hello("a bound beyond float32", actions=[["continuous", "x", -1e300, 1e300, 1]]),
        hello("a NaN bound", actions=[["continuous", "x", NAN, 1.0, 1]]),
        hello("size 0", actions=[["continuous", "x", 0.0, 1.0, 0]]),
        hello("size beyond reason", actions=[["continuous", "x", 0.0, 1.0, 2**40]]),
        hello("no reward components", rewards=[]),
        hello("two components of one name", rewards=["a", "a"]),
        hello("0 slots", slots=0),
        hello("too many slots", slots=4097),
        hello("an unknown role", role="watch"),
        hello("realtime as a number", realtime=1),
        hello("episodes 0", role="eval", episodes=0),
        hello("episodes as text", role="eval", episodes="20"),
        hello("evaluates as a number", evaluates=1),
        hello("a policy in the role train", policy="best"),
        hello("a policy in the role eval", role="eval", policy="best"),
        hello("exploring in the role eval", role="eval", explores=True),
        hello("a policy of no name", role="play", policy="worst"),
        hello("a policy as a number", role="play", policy=1200),
        hello("one of too many recent policies", role="play", policy="recent:17"),
        hello("explores as a number", role="play", explores=1),
        invalid("welcome_first", "frame before WELCOME", frame(), lander, answered=False),
        invalid("welcome_first", "frames before WELCOME", frames(), arcade, answered=False),
        invalid("unknown_slot", "slot 1 of 1", frame(slot=1), lander),
        invalid("unknown_slot", "slot -1", frame(slot=-1), lander),
        invalid("seq_out_of_order", "starts at 1", frame(1), lander),
        invalid("seq_out_of_order", "repeated", frame(0), lander, frame(0)),
        invalid("seq_out_of_order", "skipped", frame(2), lander, frame(0)),
        invalid("seq_out_of_order", "negative", frame(-1), lander),
        invalid("seq_out_of_order", "frames start at 1", frames(1), arcade),
        invalid("frame_before_answer", "before ACTION", frame(1), lander, frame(), answered=False),
        invalid("frame_before_answer", "before ACTIONS", frames(1), arcade, frames(),
                answered=False),
        invalid("mixed_frames", "frames after frame", frames(), arcade,
                frame(slot=1, obs=PIXELS, reward=[0.0, 0.0])),
        invalid("mixed_frames", "frame after frames", frame(obs=PIXELS, reward=[0.0, 0.0]), arcade,
                frames()),
        invalid("observation_size", "a number short", frame(obs=OBS[:-4]), lander),
        invalid("observation_size", "a byte more", frame(obs=OBS + b"\x00"), lander),
        invalid("observation_size", "none", frame(obs=b""), lander),
        invalid("observation_size", "float64", frame(obs=struct.pack("<3d", 0, 0, 0)), lander),
        invalid("observation_size", "frames for one slot of two", frames(obs=PIXELS), arcade),
        invalid("observation_not_finite", "NaN", frame(obs=f32(0, NAN, 0)), lander),
        invalid("observation_size", "one observation of several", frame(obs=SEEN[:50]), rover),
        invalid("observation_not_finite", "NaN in one of several",
                frame(obs=SEEN[:50] + f32(NAN, 0) + SEEN[58:]), rover),
        invalid("observation_out_of_range", "a choice that there is not",
                frame(obs=SEEN[:58] + struct.pack("<q", 9) + SEEN[66:]), rover),
        invalid("observation_not_finite", "infinity", frame(obs=f32(0, 0, -math.inf)), lander),
        invalid("reward_shape", "one number for two components",
                frame(obs=PIXELS, reward=1.0), arcade),
        invalid("reward_shape", "three numbers for two components",
                frame(obs=PIXELS, reward=[1.0, 2.0, 3.0]), arcade),
        invalid("reward_shape", "no number for one component", frame(reward=[]), lander),
        invalid("reward_shape", "frames, one number short", frames(rewards=REWARDS[4:]), arcade),
        invalid("reward_not_finite", "NaN reward", frame(reward=NAN), lander),
        invalid("reward_not_finite", "infinite reward", frame(reward=-math.inf), lander),
        invalid("reward_not_finite", "reward beyond float32", frame(reward=1e39), lander),
        invalid("reward_not_finite", "infinite component",
                frame(obs=PIXELS, reward=[0.0, math.inf]), arcade),
        invalid("reward_not_finite", "frames, NaN reward", frames(rewards=f32(0, 0, NAN, 0)),
                arcade),
        invalid("unknown_status", "status 3", frame(status=3), lander),
        invalid("unknown_status", "status -1", frame(status=-1), lander),
        invalid("unknown_status", "frames, status 3", frames(statuses=bytes([0, 3])), arcade),
        invalid("unknown_status", "frames, one status of two", frames(statuses=bytes(1)), arcade),
        invalid("action_shape", "one part for two heads", frame(expert=[1]), lander),
        invalid("action_shape", "a float for a choice", frame(expert=[1.0, 0.0]), lander),
        invalid("action_shape", "a list for a choice", frame(expert=[[1], 0.0]), lander),
        invalid("action_shape", "two numbers for one", frame(expert=[1, [0.0, 0.0]]), lander),
        invalid("action_shape", "took, one part for two heads", frame(1, took=[[1], 1]), lander,
                frame()),
        invalid("action_shape", "frames, a number short", frames(experts=f32(*[0] * 7)), arcade),
        invalid("action_shape", "frames, took a number short",
                frames(1, took=[f32(*[0] * 7), bytes([1, 1])]), arcade, frames()),
        invalid("action_out_of_range", "choice 2 of 2", frame(expert=[2, 0.0]), lander),
        invalid("action_out_of_range", "choice -1", frame(expert=[-1, 0.0]), lander),
        invalid("action_out_of_range", "value above high", frame(expert=[1, 1.5]), lander),
        invalid("action_out_of_range", "NaN value", frame(expert=[1, NAN]), lander),
        invalid("action_out_of_range", "took below low", frame(1, took=[[1, -1.5], 2]), lander,
                frame()),
        invalid("action_out_of_range", "frames, choice 1.5",
                frames(experts=f32(0, 0, 0, 1.5, NAN, 0, 0, 0)), arcade),
        invalid("action_out_of_range", "frames, value above high",
                frames(experts=f32(NAN, 0, 0, 0, 0, 0.6, 0, 0)), arcade),
        invalid("action_out_of_range", "frames, NaN behind the first column",
                frames(experts=f32(0, NAN, 0, 0, 0, 0, 0, 0)), arcade),
        invalid("action_out_of_range", "frames, took NaN with an actor",
                frames(1, took=[f32(NAN, 0, 0, 0, 0, 0, 0, 0), bytes([1, 0])]), arcade, frames()),
        hello("masks as a number", masks=1),
        hello("masks without a choice", masks=True, actions=[head]),
        invalid("message_malformed", "mask as a list", masked(0, [1, 0]), puzzle),
        invalid("mask_size", "a byte short", masked(0, MASK[:1]), puzzle),
        invalid("mask_size", "a byte for each choice", masked(0, bytes(10)), puzzle),
        invalid("mask_size", "frames, one mask for two slots",
                message(3, 0, STATE * 2, f32(0, 0), bytes(2), None, None, MASK), puzzles),
        invalid("no_legal_choice", "in the second head", masked(0, bytes([0b101, 0])), puzzle),
        invalid("no_legal_choice", "frames, in the second slot",
                message(3, 0, STATE * 2, f32(0, 0), bytes(2), None, None, MASK + bytes(2)),
                puzzles),
        invalid("action_illegal", "expert, first head", masked(0, MASK, expert=[1, 0.0, 1]),
                puzzle),
        invalid("action_illegal", "expert, second head", masked(0, MASK, expert=[0, 0.0, 2]),
                puzzle),
        invalid("action_illegal", "took, by the mask of the frame before",
                masked(1, None, took=[[1, 0.0, 1], 2]), puzzle, masked(0, MASK)),
        invalid("action_illegal", "frames, expert in the second slot",
                message(3, 0, STATE * 2, f32(0, 0), bytes(2), f32(NAN, 0, 0, 0, 0, 0), None,
                        MASK * 2), puzzles),
        hello("metrics of one name twice", metrics=["coins", "coins"]),
        hello("metrics as a map", metrics={"coins": 1}),
        hello("more metrics than there may be", metrics=[f"number {i}" for i in range(33)]),
        invalid("message_malformed", "metrics as a number", counted(7), runner),
        invalid("message_malformed", "metrics with text", counted([1, "two"]), runner),
        invalid("metrics_shape", "one number for two names", counted([1]), runner),
        invalid("metrics_shape", "frames, one slot's for two",
                message(3, 0, PLACE * 2, f32(0, 0), bytes(2), None, None, None, f32(1, 2)),
                runners),
        invalid("metric_not_finite", "second number NaN", counted([1, NAN]), runner),
        invalid("metric_not_finite", "frames, infinity in the second slot",
                message(3, 0, PLACE * 2, f32(0, 0), bytes(2), None, None, None,
                        f32(1, 2, math.inf, 4)), runners),
        invalid("took_on_first_frame", "first of all", frame(took=[[1, 0.0], 2]), lander),
        invalid("took_on_first_frame", "first of the second episode",
                frame(2, took=[[1, 0.0], 2]), lander, frame(), frame(1, status=1)),
        invalid("took_on_first_frame", "frames, first of all",
                frames(took=[bytes(32), bytes([0, 1])]), arcade),
        invalid("took_on_first_frame", "frames, first of one slot's second episode",
                frames(2, took=[bytes(32), bytes([0, 1])]), arcade, frames(),
                frames(1, statuses=bytes([0, 2]))),
        invalid("unknown_actor", "actor 0", frame(1, took=[[1, 0.0], 0]), lander, frame()),
        invalid("unknown_actor", "actor 3", frame(1, took=[[1, 0.0], 3]), lander, frame()),
        invalid("unknown_actor", "frames, actor 3", frames(1, took=[bytes(32), bytes([0, 3])]),
                arcade, frames()),
        invalid("unknown_actor", "frames, one actor of two",
                frames(1, took=[bytes(32), bytes([1])]), arcade, frames()),
        invalid("expert_missing", "no recommendation in an episode", frame(1, status=1), expert,
                frame()),
        invalid("expert_missing", "none in the second episode", frame(3, status=2), expert,
                frame(expert=[1, 0.0]), frame(1, status=1), frame(2)),
        invalid("expert_missing", "frames, none at all", frames(1, statuses=bytes([1, 1])),
                experts, frames()),
        invalid("expert_missing", "frames, none in the episode of a slot",
                frames(1, statuses=bytes([0, 2])), experts,
                frames(experts=f32(0, 0, 0, 0, NAN, 0, 0, 0))),
    ]  # fmt: skip


def document() -> dict[str, Any]:
    """All that the file holds."""
    vectors = valid_vectors(), invalid_vectors()
    for group in vectors:
        names = [vector["name"] for vector in group]
        assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
    return {"note": NOTE, "protocol": 1, "valid": vectors[0], "invalid": vectors[1]}


def text() -> str:
    """The file: one vector to a line, so that a change to one is a change to one line."""
    content = document()
    parts = [f' "note": {json.dumps(content["note"])}', f' "protocol": {content["protocol"]}']
    for key in ("valid", "invalid"):
        lines = ",\n  ".join(json.dumps(vector, allow_nan=False) for vector in content[key])
        parts.append(f' "{key}": [\n  {lines}\n ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    TARGET.write_text(text())
