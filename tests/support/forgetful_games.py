"""Two games that nobody wins who sees the newest frame alone.

In the maze the first frame shows a sign, and the last one asks for it. In the other the pole's
velocities, and the cart's, are hidden.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv

MAZE = "TMaze-v0"
"""A corridor of CORRIDOR places, walked by itself, then a junction: the side that the sign at the
beginning showed earns 1, the other one loses 1 (Bakker 2002, NIPS 14)."""

HIDDEN_VELOCITIES = "CartPoleHiddenVelocities-v0"
"""CartPole-v1 without its velocities."""

CORRIDOR = 6


class Maze(gymnasium.Env[Any, Any]):
    """MAZE. Observations: the sign, -1 or 1, in the first frame and 0 in others; whether this is
    the junction. Choices: left and right."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.place, self.sign = 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.place, self.sign = 0, int(self.np_random.integers(2))
        return np.array([2 * self.sign - 1, 0], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        over = self.place == CORRIDOR
        reward = (1.0 if int(action) == self.sign else -1.0) if over else 0.0
        self.place += 1
        shown = np.array([0, self.place == CORRIDOR], np.float32)
        return shown, reward, over, False, {}


class Positions(gymnasium.ObservationWrapper[Any, Any, Any]):
    """HIDDEN_VELOCITIES: the cart's place and the pole's angle, from -1 to 1 or so."""

    def __init__(self, max_episode_steps: int = 500) -> None:
        super().__init__(gymnasium.wrappers.TimeLimit(CartPoleEnv(), max_episode_steps))
        self.observation_space = spaces.Box(-2.0, 2.0, (2,), np.float32)

    def observation(self, observation: Any) -> Any:
        return observation[[0, 2]] / np.array([2.4, 0.21], np.float32)


for name, game in ((MAZE, Maze), (HIDDEN_VELOCITIES, Positions)):
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=game)
