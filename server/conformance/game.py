"""The game that the cases play: its spec, a HELLO, frames, and an expert's recommendation."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

OBSERVATIONS: list[dict[str, Any]] = [
    {"dtype": "float32", "shape": [3], "name": "state"},
    {"dtype": "uint8", "shape": [1], "name": "room", "kind": "choice", "n": 4},
    {"dtype": "bool", "shape": [1], "name": "light"},
]


def observed(state: Sequence[float] = (0.5, -1.0, 2.0), room: int = 3, light: int = 1) -> bytes:
    """The bytes of OBSERVATIONS."""
    return struct.pack("<3fBB", *state, room, light)


OBS = observed()
HEADS: list[list[Any]] = [
    ["discrete", "fire", 3],
    ["continuous", "turn", -1.0, 1.0, 1],
    ["continuous", "move", -2.0, 0.5, 2],
]
WIDTH = 4
MASK_OF = tuple(bytes([1 << choice]) for choice in range(3))
"""For each choice of `fire` the mask in which it alone is legal."""
EXPERT: list[Any] = [1, -0.5, [-1.25, 0.25]]
ROW = [1.0, -0.5, -1.25, 0.25]
NAN = float("nan")


def hello(**changes: Any) -> dict[str, Any]:
    """The map of a HELLO of the game that all cases play."""
    return {
        "protocol": 1,
        "client": "understudy-conformance/1",
        "game": "conformance",
        "observation": OBSERVATIONS,
        "actions": HEADS,
        "masks": True,
        **changes,
    }


def frame(
    seq: int,
    *,
    slot: int = 0,
    obs: Any = OBS,
    reward: Any = 0.0,
    status: Any = 0,
    expert: Any = None,
    took: Any = None,
    legal: Any = None,
) -> list[Any]:
    """A FRAME; `legal` of None is left out."""
    frame = [2, slot, seq, obs, reward, status, expert, took]
    return frame if legal is None else [*frame, legal]


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def frames(
    seq: int,
    *,
    obs: bytes = OBS * 2,
    rewards: bytes = floats(0.0, 0.0),
    statuses: bytes = bytes(2),
    experts: Any = None,
    took: Any = None,
    legal: Any = None,
) -> list[Any]:
    """A FRAMES of two slots; `legal` of None is left out."""
    frames = [3, seq, obs, rewards, statuses, experts, took]
    return frames if legal is None else [*frames, legal]
