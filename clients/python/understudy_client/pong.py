"""ALE's Pong as eight numbers out of its memory, and a ball-following expert.

`gymnasium.make("understudy_client.pong:PongRam-v0")`, with ale-py (Bellemare et al. 2013,
arXiv:1207.4708), which brings the game. The player is the paddle on the right.

An episode is five points, its return the points won minus the points lost, -5 to 5. It ends in a
truncation: the game would go on, and what a position is worth does not depend on how many points
are left. The pause before each serve is not shown. The paddle spends it moving to somewhere random
and the serve falls on a random frame, both from the seed, so that no two points are alike, though
nothing else is random: actions are never ignored or repeated ("sticky").

Mean return of the expert over 300 episodes (+- standard error): 0.2 +- 0.1;
`python -m understudy_client.experts PongRam-v0 300` measures it.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from ale_py import Action, ALEInterface, LoggerMode, roms
from gymnasium import spaces

Floats = npt.NDArray[np.float32]

PONG = "PongRam-v0"

POINTS = 5
"""Points of an episode; a game of 21 would be long to evaluate."""

FRAME_SKIP = 4
"""Frames of the game for each action."""

PAUSE_FRAMES = 40
"""How long the paddle moves before a serve, at most: enough to reach any height."""

BALL_X, BALL_Y, PLAYER_Y, ENEMY_Y = range(4)
"""Places in an observation. Those four, in the same order, are followed by their velocities."""

_ADDRESSES = np.array([49, 54, 51, 50])
"""Where the game keeps them (AtariARI, Anand et al. 2019, arXiv:1906.08226)."""

_MIDDLE = np.array([128, 122, 122, 122], np.float32)
_REACH = np.array([80, 84, 84, 84], np.float32)
_FASTEST = np.array([4, 12, 24, 8], np.float32)
"""What is 0 and what is 1 in an observation: pixels, and pixels in FRAME_SKIP frames."""

_TO_MIDDLE, _DEAD_BAND = 8, 10
"""Of the expert, in pixels: where on the paddle it wants the ball, and how far off it may be."""

_STAY, _UP, _DOWN = range(3)
_MOVES = (Action.NOOP, Action.RIGHT, Action.LEFT)


class Pong(gymnasium.Env[Floats, np.int64]):
    """Actions 0 stay, 1 up, 2 down. Observations float32 [8]: ball x, ball y, the player's and the
    enemy's y, each about -1 to 1 with y pointing down, then how far each has moved since the last
    action, about -1 to 1. Rewards 1 for a point won, -1 for one lost."""

    def __init__(self) -> None:
        self.action_space = spaces.Discrete(len(_MOVES))
        self.observation_space = spaces.Box(-2.0, 2.0, (2 * len(_ADDRESSES),), np.float32)
        ALEInterface.setLoggerMode(LoggerMode.Error)  # before it is made: it prints a banner
        self._ale = ALEInterface()
        self._ale.setInt("random_seed", 0)
        self._ale.setFloat("repeat_action_probability", 0.0)
        game = roms.get_rom_path("pong")
        assert game is not None
        self._ale.loadROM(game)
        # A reset goes back to here: loading the game takes a tenth of a second.
        self._start = self._ale.cloneState()
        self._ram = np.zeros(self._ale.getRAMSize(), np.uint8)
        self._now = self._before = np.zeros(len(_ADDRESSES), np.float32)
        self._played = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._ale.restoreState(self._start)
        self._look()
        self._played = 0
        self._serve()
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        reward = self._act(_MOVES[action], FRAME_SKIP)
        if reward:
            self._played += 1
            self._serve()
        return self._observation(), float(reward), False, self._played == POINTS, {}

    def _act(self, move: Action, frames: int) -> int:
        """The points that some frames bring."""
        reward = sum(self._ale.act(move) for _ in range(frames))
        self._look()
        return reward

    def _look(self) -> None:
        self._ale.getRAM(self._ram)
        self._before, self._now = self._now, self._ram[_ADDRESSES].astype(np.float32)

    def _serve(self) -> None:
        """Let the pause pass, until the ball has been in play for as long as an action takes."""
        rng = self.np_random
        while self._ball_is_seen():
            self._act(Action.NOOP, 1)
        self._act(_MOVES[rng.integers(len(_MOVES))], int(rng.integers(PAUSE_FRAMES)))
        while not self._ball_is_seen():
            self._act(Action.NOOP, 1)
        self._act(Action.NOOP, int(rng.integers(FRAME_SKIP)))
        self._act(Action.NOOP, FRAME_SKIP)

    def _ball_is_seen(self) -> bool:
        return bool(self._now[BALL_Y])

    def _observation(self) -> Floats:
        place = (self._now - _MIDDLE) / _REACH
        return np.concatenate([place, (self._now - self._before) / _FASTEST])


if PONG not in gymnasium.registry:
    gymnasium.register(
        PONG,
        entry_point="understudy_client.pong:Pong",
        # Two that only return the ball can go on for ever.
        max_episode_steps=2000,
    )


def follow_ball(_env: gymnasium.Env[Any, Any], obs: Floats) -> int:
    """While the ball comes nearer, move the paddle's middle towards its height, with a dead band;
    else stay. So it returns most balls, comes too late for steep ones, and aims at nothing."""
    if obs[len(_ADDRESSES) + BALL_X] < 0:
        return _STAY
    too_low = float(obs[PLAYER_Y] - obs[BALL_Y]) * 84 + _TO_MIDDLE
    return _UP if too_low > _DEAD_BAND else _DOWN if too_low < -_DEAD_BAND else _STAY
