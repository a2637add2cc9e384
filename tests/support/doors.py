"""A small game that cannot be won without its masks.

A bridge of rooms, each with eight doors, of which two may be opened: one leads on, one back.
Behind any other door is nothing, and who opens it falls. Behind the bridge is a fork. To the left,
all that may be done costs; the door that pays best elsewhere is there too, and may not be opened.
To the right is a small prize. Half of the episodes are played in a shop, where that best door is
open.

- Who explores among all doors never crosses the bridge.
- Whose values of the left come from its forbidden door goes left.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

DOORS = "DoorsWithMasks-v0"
OPEN_DOORS = "OpenDoors-v0"
"""The same, which does not say what is legal."""

LENGTH, CHOICES, BEST = 5, 8, 7
FORK, LEFT, RIGHT, SHOP = range(LENGTH, LENGTH + 4)
ROOMS = LENGTH + 4
STEPS = 60


class OpenDoors(gymnasium.Env[npt.NDArray[np.float32], Any]):
    """Observation: which room, faintly, beside numbers that are always the same."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (ROOMS + 4,), np.float32)
        self.action_space = spaces.Discrete(CHOICES)
        ways = np.random.default_rng(5)
        doors = [ways.choice(CHOICES - 1, 2, replace=False).tolist() for _ in range(LENGTH + 1)]
        self._legal = [*doors, [0], [1], [BEST]]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._steps = 0
        self._room = SHOP if (seed or 0) % 2 else 0
        return self._obs(), {}

    def step(
        self, action: Any
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self._steps += 1
        legal = self._legal[self._room]
        if action not in legal:
            return self._obs(), -1.0, True, False, {}
        if self._room in (LEFT, RIGHT, SHOP):
            return self._obs(), {LEFT: -1.0, RIGHT: 2.0, SHOP: 6.0}[self._room], True, False, {}
        on = action == legal[0]
        if self._room == FORK:
            self._room = LEFT if on else RIGHT
        else:
            self._room = self._room + 1 if on else max(self._room - 1, 0)
        return self._obs(), 0.0, False, self._steps == STEPS, {}

    def _obs(self) -> npt.NDArray[np.float32]:
        obs = np.zeros(ROOMS + 4, np.float32)
        obs[self._room] = 1.0
        obs[ROOMS:] = 1.0
        return obs


class Doors(OpenDoors):
    """The game with masks."""

    def action_masks(self) -> npt.NDArray[np.bool_]:
        mask = np.zeros(CHOICES, np.bool_)
        mask[self._legal[self._room]] = True
        return mask


for name, game in ((DOORS, Doors), (OPEN_DOORS, OpenDoors)):
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=game)
