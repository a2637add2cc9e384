"""Experts for two of Gymnasium's classic games, CartPole and Acrobot: one that plays well, and one
that plays safe (`timid_*`). docs/experts.md has what they score."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def balance(_env: Any, obs: Floats) -> int:
    """CartPole: keeps the pole upright, and the cart near the middle."""
    place, speed, angle, turning = obs.tolist()
    return int(angle + 0.25 * turning + 0.03 * place + 0.06 * speed > 0)


def timid_balance(_env: Any, obs: Floats) -> int:
    """CartPole: lets the pole lean a little to one side, wherever that takes the cart."""
    _, _, angle, turning = obs.tolist()
    return int(angle + 0.25 * turning > 0.03)


def pump(_env: Any, obs: Floats) -> int:
    """Acrobot: pushes with the second arm's turning, which adds energy at every moment."""
    return 2 if obs[5] > 0 else 0


def timid_pump(_env: Any, obs: Floats) -> int:
    """Acrobot: the same, but only while both arms turn slowly: it swings, and not too wildly."""
    return pump(_env, obs) if float(np.abs(obs[4:]).max()) < 4.0 else 1
