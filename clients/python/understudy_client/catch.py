"""Catch, as a picture: balls fall, and a paddle below is to be where they land.

`gymnasium.make("understudy_client.catch:CatchPixels-v0")`: a picture of 21 x 19 bytes. A ball falls
two rows a step and moves aside by one column or by three, bouncing off the walls; the paddle, three
columns wide, moves by one. The ball lands so far from the paddle that it has to set off at once,
and one picture does not show to which side. Two do.

After Catch of Mnih et al. 2014 (arXiv:1406.6247) and bsuite (Osband et al. 2020, arXiv:1908.03568),
where the ball falls straight down. An episode is 10 balls, +1 for each that is caught and -1 for
each that is not. Mean return over 300 episodes: the expert, who knows where balls land, 10; who
looks at two pictures of a ball and then goes there, 9.4; who keeps below the ball, 0.9; random
moves, -9.2 (`python -m understudy_client.experts CatchPixels-v0 300`, and with `1` behind it).
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

HEIGHT, WIDTH = 21, 19
FALL = 2
"""Rows that the ball falls in a step."""
STEPS = (HEIGHT - 1) // FALL
"""From a ball's first picture to its last."""
SPEEDS = (-3, -1, 1, 3)
BALLS = 10
REACH = 1
"""Columns on both sides of the paddle's middle that catch too."""
AWAY = (5, 9)
"""How far from the paddle a ball will land, at least and at most: what is left from its second
picture on is enough."""

CATCH = "CatchPixels-v0"
LEFT, STAY, RIGHT = range(3)

Picture = npt.NDArray[np.uint8]


class CatchPixels(gymnasium.Env[Picture, np.int64]):
    """The game without a time limit: an episode is `BALLS * (STEPS + 1) - 1` steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (HEIGHT, WIDTH), np.uint8)
        self.action_space = spaces.Discrete(3)
        self.paddle = WIDTH // 2
        """The column of its middle."""
        self.column = self.row = 0
        """Where the ball is."""
        self.speed = 0
        """Columns by which it moves to the right in a step."""
        self._balls = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Picture, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.paddle = WIDTH // 2
        self._balls = 0
        self._throw()
        return self.picture(), {}

    def step(self, action: np.int64) -> tuple[Picture, float, bool, bool, dict[str, Any]]:
        self.paddle = min(max(self.paddle + int(action) - STAY, REACH), WIDTH - 1 - REACH)
        reward = 0.0
        if self.row == HEIGHT - 1:
            self._throw()
        else:
            self.row += FALL
            self.column, self.speed = bounced(self.column + self.speed, self.speed)
        if self.row == HEIGHT - 1:
            reward = 1.0 if abs(self.column - self.paddle) <= REACH else -1.0
            self._balls += 1
        return self.picture(), reward, self._balls == BALLS, False, {}

    @property
    def landing(self) -> int:
        """The column in which the ball will come down."""
        column, speed = self.column, self.speed
        for _ in range(self.row, HEIGHT - 1, FALL):
            column, speed = bounced(column + speed, speed)
        return column

    def picture(self) -> Picture:
        """What is seen now."""
        picture = np.zeros((HEIGHT, WIDTH), np.uint8)
        picture[HEIGHT - 1, self.paddle - REACH : self.paddle + REACH + 1] = 128
        picture[self.row, self.column] = 255
        return picture

    def _throw(self) -> None:
        """A new ball, from anywhere at the top."""
        self.row = 0
        away = 0
        while not AWAY[0] <= away <= AWAY[1]:
            self.column = int(self.np_random.integers(WIDTH))
            self.speed = int(self.np_random.choice(SPEEDS))
            away = abs(self.landing - self.paddle)


def bounced(column: int, speed: int) -> tuple[int, int]:
    """Where a ball that came to this column is, and how it goes on, between the walls."""
    if column < 0:
        return -column, -speed
    if column > WIDTH - 1:
        return 2 * (WIDTH - 1) - column, -speed
    return column, speed


def expert(env: gymnasium.Env[Any, Any], _obs: Picture) -> np.int64:
    """Straight to where the ball will land."""
    game = env.unwrapped
    assert isinstance(game, CatchPixels)
    return np.int64(STAY + np.sign(game.landing - game.paddle))


if CATCH not in gymnasium.registry:
    gymnasium.register(CATCH, entry_point="understudy_client.catch:CatchPixels")
