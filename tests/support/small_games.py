"""Two games that are learnt in seconds, with their experts: for tests of learning.

In both the player goes along a line of places, and sees which one it is at.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

DOORS = "Doors-v0"
"""At each place one of four doors leads on, and the others end the episode. Behind the last place
is the only reward, 1: who is not shown the way hardly ever sees it."""

STAIRS = "Stairs-v0"
"""At each place the player goes on (0), which earns 0.1, or leaves (1): the last place ends too."""

PLACES = 8
RIGHT_DOORS = (2, 0, 3, 1, 1, 3, 0, 2)

Env = gymnasium.Env[Any, Any]


class _Line(gymnasium.Env[Any, Any]):
    """What the games share. Observations are one-hot, float32 [PLACES]."""

    place = 0

    def __init__(self, choices: int) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (PLACES,), np.float32)
        self.action_space = spaces.Discrete(choices)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.place = 0
        return self._seen(), {}

    def _seen(self) -> Any:
        return np.eye(PLACES, dtype=np.float32)[min(self.place, PLACES - 1)]


class Doors(_Line):
    """DOORS."""

    def __init__(self) -> None:
        super().__init__(4)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right = int(action) == RIGHT_DOORS[self.place]
        self.place += right
        through = self.place == PLACES
        return self._seen(), float(through), through or not right, False, {}


class Stairs(_Line):
    """STAIRS."""

    def __init__(self) -> None:
        super().__init__(2)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        on = int(action) == 0
        self.place += on
        return self._seen(), 0.1 * on, not on or self.place == PLACES, False, {}


def knows_doors(_env: Env, obs: Any) -> int:
    """The expert of DOORS: it never errs."""
    return RIGHT_DOORS[int(np.argmax(obs))]


def timid(_env: Env, obs: Any) -> int:
    """The expert of STAIRS: it leaves at the third place, with 0.2 of 0.8."""
    return int(np.argmax(obs) >= 2)


for name, game in ((DOORS, Doors), (STAIRS, Stairs)):
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=game)
