"""A game that goes on for ever while it is told the same again and again, as an untrained network
does that sees nothing: `gymnasium.make("tests.support.endless_game:Endless-v0")`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

Floats = npt.NDArray[np.float32]


class Endless(gymnasium.Env[Floats, np.int64]):
    """Each frame earns -1. It ends with the first action that is not the one before."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(4)
        self._before: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._before = None
        return np.zeros(2, np.float32), {}

    def step(self, action: np.int64) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        over = self._before not in (None, int(action))
        self._before = int(action)
        return np.zeros(2, np.float32), -1.0, over, False, {}


gymnasium.register("Endless-v0", entry_point=Endless)
