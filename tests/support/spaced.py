"""Environments of which only the spaces matter, by their names in Gymnasium."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

TALKS = "tests.support.spaced:Talks-v0"
"""It is seen as a text."""

NESTED = "tests.support.spaced:Nested-v0"
"""It shows a picture, numbers and choices, and takes every kind of action."""

LOOSE = "tests.support.spaced:Loose-v0"
"""Its actions have no bounds."""


class Spaced(gymnasium.Env[Any, Any]):
    """Shows samples of its space, and refuses what is no action of its own; it keeps the last one.
    Episodes are of 10 frames, of which each earns 1."""

    def __init__(
        self,
        seen: spaces.Space[Any] | None = None,
        done: spaces.Space[Any] | None = None,
        size: int = 2,
    ) -> None:
        self.observation_space = seen or spaces.Box(0, 1, (size,))
        self.action_space = done or spaces.Discrete(2)
        self.action: Any = None
        self._frames = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self._frames = 0
        return self.observation_space.sample(), {"options": options}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.action = action
        self._frames += 1
        return self.observation_space.sample(), 1.0, self._frames == 10, False, {}


def nested_observation() -> spaces.Space[Any]:
    """A picture, numbers and choices."""
    return spaces.Dict(
        OrderedDict(
            camera=spaces.Box(0, 255, (12, 12, 3), np.uint8),
            inner=spaces.Tuple([spaces.Box(-9, 9, (2,), np.float64), spaces.Discrete(3, start=1)]),
            flags=spaces.MultiBinary(2),
            many=spaces.MultiDiscrete([2, 4]),
            planes=spaces.Box(0, 1, (3, 3), np.bool_),
            counts=spaces.Box(0, 99, (2,), np.int64),
        )
    )


def nested_action() -> spaces.Space[Any]:
    """Every kind of action."""
    return spaces.Dict(
        OrderedDict(
            move=spaces.Tuple([spaces.Discrete(3, start=-1), spaces.Box(-1, 1, (2,))]),
            keys=spaces.MultiBinary(2),
            gears=spaces.MultiDiscrete([2, 3]),
            level=spaces.Box(0, 4, (1,), np.int64),
        )
    )


for name, seen, done in (
    (TALKS, spaces.Text(5), None),
    (NESTED, nested_observation(), nested_action()),
    (LOOSE, None, spaces.Box(-np.inf, np.inf, (2,))),
):
    bare = name.rpartition(":")[2]
    if bare not in gymnasium.registry:
        gymnasium.register(bare, entry_point=Spaced, kwargs={"seen": seen, "done": done})
