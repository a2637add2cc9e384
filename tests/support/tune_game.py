"""A game that a search can tell good settings from bad ones by, in a few hundred frames:
`tests.support.tune_game:OneRight-v0`.

One of 50 choices is right and earns 1 in each of the 5 steps of an episode; the expert knows it. A
network that has learnt nothing does not choose it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import register

CHOICES, RIGHT, LENGTH = 50, 17, 5
ENV = "tests.support.tune_game:OneRight-v0"
EXPERT = "tests.support.tune_game:expert"

HOLD = "TUNE_GAME_HOLD"
"""The variable that names a file: while it is there, no episode begins. One beside it, with HELD at
its end, is there once an episode waits."""
HELD = ".held"


class OneRight(gymnasium.Env[Any, Any]):
    """The same observation always."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(CHOICES)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed, options=options)
        hold = os.environ.get(HOLD, "/nowhere")
        while Path(hold).exists():
            Path(hold + HELD).touch()
            time.sleep(0.01)
        self._at = 0
        return np.ones(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self._at += 1
        return np.ones(2, np.float32), float(action == RIGHT), self._at == LENGTH, False, {}


def expert(_env: Any, _obs: Any) -> int:
    return RIGHT


register("OneRight-v0", OneRight)
