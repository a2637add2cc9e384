"""A small game in three lessons, each of which needs another part of the learner.

An episode goes through them one after the other; each is worth about 1.

- *trust*: the choice that costs 0.5 at once is repaid with 1.5 later, in a state that looks the
  same either way. Rewards teach the wrong choice. The teacher knows better, so cloning the rows
  tagged expert is the only way to it.
- *aim*: the number `dial` earns the more the nearer it is to a target that the observation shows.
  Nobody recommends one. Regression towards what was tried leads nowhere, unless tries are weighted
  by what they earned.
- *walk*: a corridor. Every step towards its end costs, only the end pays: values must come back
  from there, step by step, through the target network.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

LESSONS = "Lessons-v0"
TEACHER = "tests.support.lessons:teacher"

TRUST, REPAID, AIM, WALK = range(4)
AIMS = 3
LENGTH = 6
STEPS = 12
"""Steps until the walk is given up."""


class Lessons(gymnasium.Env[npt.NDArray[np.float32], dict[str, Any]]):
    """Observation: the lesson, the good choice's hint, the target, the place in the corridor."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (4 + 1 + LENGTH,), np.float32)
        self.action_space = spaces.Dict(choice=spaces.Discrete(2), dial=spaces.Box(-1.0, 1.0, (1,)))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.lesson, self._aims, self._steps = TRUST, 0, 0
        self._trusted = False
        self._target = self._new_target()
        self._place = int(self.np_random.integers(LENGTH))
        return self._obs(), {}

    def step(
        self, action: dict[str, Any]
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        choice, dial = int(action["choice"]), float(action["dial"][0])
        reward, over = 0.0, False
        if self.lesson == TRUST:
            self._trusted = choice == 1
            reward = -1.0 if self._trusted else 0.0
            self.lesson = REPAID
        elif self.lesson == REPAID:
            reward = 2.0 if self._trusted else 0.0
            self.lesson = AIM
        elif self.lesson == AIM:
            reward = (1.0 - abs(dial - self._target)) * 1.5 / AIMS
            self._target = self._new_target()
            self._aims += 1
            self.lesson = WALK if self._aims == AIMS else AIM
        else:
            self._steps += 1
            if choice == 1:
                self._place += 1
                over = self._place == LENGTH
                reward = 1.3 if over else -0.1
            else:
                self._place = max(0, self._place - 1)
        return self._obs(), reward, over, self._steps == STEPS, {}

    def _new_target(self) -> float:
        return float(self.np_random.choice([-0.8, 0.8]))

    def _obs(self) -> npt.NDArray[np.float32]:
        obs = np.zeros(4 + 1 + LENGTH, np.float32)
        obs[self.lesson] = 1.0
        if self.lesson == AIM:
            obs[4] = self._target
        if self.lesson == WALK and self._place < LENGTH:
            obs[5 + self._place] = 1.0
        return obs


def teacher(env: gymnasium.Env[Any, Any], _obs: Any) -> dict[str, Any] | None:
    """Recommends trust, and has nothing to say of the other lessons."""
    lessons = env.unwrapped
    assert isinstance(lessons, Lessons)
    return {"choice": 1, "dial": np.zeros(1, np.float32)} if lessons.lesson == TRUST else None


if LESSONS not in gymnasium.registry:
    gymnasium.register(LESSONS, entry_point=Lessons)
