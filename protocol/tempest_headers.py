"""The headers of `tempest_ai`'s frames: which there are, in which revision, and how each is read.

A frame is a header and n float32. Nothing in it says which header it has, but its length and its n
do: what is left of the length without the values is the header's, and each is of another length.
"""

from __future__ import annotations

from enum import Enum
from operator import itemgetter
from struct import Struct
from typing import NamedTuple

import numpy as np

from protocol.errors import RemoteError

VALUE_BYTES = 4

TYPES = {"B": "u1", "H": ">u2", "h": ">i2", "I": ">u4", "d": ">f8"}
"""Types of `struct` as those of numpy."""

HIGH_SCORE_ENTRY, LEVEL_SELECT = 0x12, 0x16
"""Values of the game state."""

PLAYING = 0x80
"""The bit of the game mode that is set while somebody plays."""


class Phase(Enum):
    """What the machine is doing. A client does as it is told only while it plays."""

    PLAY = "play"
    ATTRACT = "attract"
    LEVEL_SELECT = "level_select"
    HIGH_SCORE = "high_score"


class Fields(NamedTuple):
    """What the server reads of a header."""

    n: int
    """How many values the client says that follow."""
    rewards: list[float]
    """By component, in the order of `Header.rewards`."""
    done: int
    save: int
    told: tuple[int, int, int]
    """Fire, zap and spinner of the last reply, as the client understood it."""
    expert_zap: int
    phase: Phase
    score: int
    level: int


class Header:
    """One of the headers."""

    def __init__(
        self, revisions: str, form: str, names: str, rewards: tuple[str, ...], reply_bytes: int
    ) -> None:
        """`form`: the types as `struct` has them; `names`: of the fields, in their order;
        `rewards`: of those, what the game's reward is made of; `reply_bytes`: what these clients
        read, unless tempest.reply_bytes says otherwise."""
        self.revisions = revisions
        """Of tempest_ai, in words."""
        self.form = ">" + form
        self.names = tuple(names.split())
        self.rewards = rewards
        self.reply_bytes = reply_bytes
        self.dtype = np.dtype(
            [(name, TYPES[kind]) for name, kind in zip(self.names, form, strict=True)]
        )
        self.size = self.dtype.itemsize
        self._unpack = Struct(self.form).unpack_from
        at = self.names.index
        self._rewards = [at(name) for name in rewards]
        self._attract = at("attract") if "attract" in self.names else None
        self._pick = itemgetter(
            *map(at, ("n", "done", "save", "expert_zap", "game_state", "game_mode")),
            *map(at, ("score", "level", "fire", "zap", "spinner")),
        )

    def fields(self, payload: memoryview) -> Fields:
        """Those of a payload that begins with this header."""
        parts = self._unpack(payload)
        n, done, save, zap, state, mode, score, level, *told = self._pick(parts)
        attract = parts[self._attract] if self._attract is not None else not mode & PLAYING
        if state == HIGH_SCORE_ENTRY:
            phase = Phase.HIGH_SCORE
        elif state == LEVEL_SELECT:
            phase = Phase.LEVEL_SELECT
        else:
            phase = Phase.ATTRACT if attract else Phase.PLAY
        rewards = [parts[place] for place in self._rewards]
        return Fields(n, rewards, done, save, tuple(told), zap, phase, score, level)


HEADER_39 = Header(
    "the revisions after those, up to the newest with 195 values",
    "HddBBBHIBBBhhBBBBB",
    "n subjective objective game_state game_mode done frame score save fire zap spinner "
    "target player open expert_fire expert_zap level",
    ("objective", "subjective"),
    5,
)
"""The newest. Those of its clients that do not know the start-level settings read 3 bytes."""

HEADER_48 = Header(
    "64b666c of 2025-10-09, the first with actor tags, and those around it",
    "HdddBBBHIBBBhBhBBBBB",
    "n total subjective objective game_state game_mode done frame score save fire zap spinner "
    "attract target player open expert_fire expert_zap level",
    ("total",),
    3,
)
"""With the sum of both rewards, from which its server learnt, and a byte for the attract mode.
Before 2025-10-07 the score was two u16, the higher first: the same bytes."""

HEADERS = (HEADER_39, HEADER_48)

MIN_LENGTH = min(header.size for header in HEADERS) + VALUE_BYTES

KNOWN = " or ".join(f"{header.size} bytes ({header.revisions})" for header in reversed(HEADERS))


def fits(length: int) -> bool:
    """Whether a payload of this length can be one of these headers and at least one value."""
    return any(
        length >= header.size + VALUE_BYTES and (length - header.size) % VALUE_BYTES == 0
        for header in HEADERS
    )


def check_length(length: int) -> None:
    """Errors: RemoteError where no payload is of this length."""
    if not fits(length):
        raise RemoteError(
            "message_malformed",
            f"expected a frame with a header of {KNOWN}, and {VALUE_BYTES} bytes for each value, "
            f"got a length of {length}; update the client, or see docs/tempest.md for those that "
            "are known",
        )


def header_of(payload: bytes | bytearray | memoryview) -> Header | None:
    """The header of this payload, by its length and its n; None where it has none of these."""
    n = int.from_bytes(payload[:2], "big")
    size = len(payload) - VALUE_BYTES * n
    return next((header for header in HEADERS if n and header.size == size), None)


def recognized(payload: bytes) -> Header:
    """The same. Errors: RemoteError where it has none of these."""
    header = header_of(payload)
    if header is None:
        n = int.from_bytes(payload[:2], "big")
        raise RemoteError(
            "message_malformed",
            f"expected a header of {KNOWN}, and n values of {VALUE_BYTES} bytes, got n = {n} in a "
            f"frame of {len(payload)} bytes, which leaves {len(payload) - VALUE_BYTES * n} for the "
            "header; update the client, or see docs/tempest.md for those that are known",
        )
    return header
