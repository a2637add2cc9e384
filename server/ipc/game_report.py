"""What the games of a gateway tell of themselves: a part of its report."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from protocol.actor import TAG_COUNT


def _no_steps() -> npt.NDArray[np.float64]:
    return np.zeros(TAG_COUNT)


@dataclass(frozen=True)
class GameReport:
    """Scores and levels where their format tells them, named numbers, parts of the reward."""

    skipped: int = 0
    """Frames that were answered and are no play."""
    score_peak: float = math.nan
    level_peak: float = math.nan
    """Of all games since the gateway's start; NaN where none tells it."""
    finished: list[tuple[int, int]] = field(default_factory=list)
    """Score and level of each training episode that ended in the interval."""
    numbers: list[dict[str, tuple[float, float]]] = field(default_factory=list)
    """Of each training episode that ended in the interval: mean and peak of the numbers that the
    game names."""
    reward_parts: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """What each part of the reward earned each actor in training in the interval, [TAG_COUNT], by
    name; empty where there is one part."""
    reward_steps: npt.NDArray[np.float64] = field(default_factory=_no_steps)
    """The steps of each actor in the interval, [TAG_COUNT]."""
