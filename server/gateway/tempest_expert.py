"""The expert of the older clients for Tempest, as an `expert.plugin`.

A client's own expert says whether to fire and to zap, and which segment it aims at; turning the
knob towards it is left to the server, as it was to the older one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.spaces import Discrete
from protocol.tempest import LEVELS, MAX_SPINNER, SCALE
from server.gateway.expert_plugin import Situation

SEGMENTS = 16
NOWHERE = (-32768, -1)
"""Targets that are none."""

_LEVELS = np.array(LEVELS, np.float32)


def recommend(obs: npt.NDArray[Any], situation: Situation) -> npt.NDArray[np.float32]:
    """Action rows, float32 [n, 2]. Frames that came without a header get no recommendation."""
    rows = np.full((len(obs), 2), np.nan, np.float32)
    fields = situation.fields
    if fields:
        turn = knob(fields["target"], fields["player"], fields["open"] != 0)
        levels = isinstance(situation.spec.actions[1], Discrete)
        rows[:, 0] = 2 * (fields["expert_fire"] != 0) + (fields["expert_zap"] != 0)
        rows[:, 1] = nearest_level(turn) if levels else turn
    return rows


def knob(
    target: npt.NDArray[np.int16], player: npt.NDArray[np.uint8], is_open: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """How to turn towards a segment: float32 [n] from -0.9 to 0.9.

    A closed level is a ring: the shorter way round, and clockwise where both are as long. An open
    one has ends. Further is faster: 0.3 + 0.05 x distance. Segments ahead are a negative turn.
    """
    to, at = target.astype(np.int32) % SEGMENTS, player.astype(np.int32) % SEGMENTS
    way = to - at
    half = SEGMENTS // 2
    ring = (way + half - 1) % SEGMENTS - (half - 1)  # -7 to 8
    way = np.where(is_open, way, ring)
    way[np.isin(target, NOWHERE)] = 0
    strength = np.minimum(MAX_SPINNER, 0.3 + 0.05 * np.abs(way))
    turn: npt.NDArray[np.float32] = (-np.sign(way) * strength).astype(np.float32)
    return turn


def nearest_level(turn: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """The choices whose levels are nearest to these turns, [n]."""
    nearest: npt.NDArray[np.intp] = np.abs(turn[:, None] * SCALE - _LEVELS).argmin(axis=1)
    return nearest
