"""Catch as a picture: its rules, and that one picture is not enough."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from understudy_client import catch
from understudy_client.catch import (
    AWAY,
    BALLS,
    HEIGHT,
    LEFT,
    REACH,
    RIGHT,
    SPEEDS,
    STAY,
    STEPS,
    WIDTH,
    CatchPixels,
)
from understudy_client.environments import make
from understudy_client.experts import find, returns
from understudy_client.gym import spec_of
from understudy_client.spec import Discrete, Observation


def follow(env: Any, _obs: Any) -> np.int64:
    """Keeps below the ball."""
    game = env.unwrapped
    return np.int64(STAY + np.sign(game.column - game.paddle))


def step_game(game: CatchPixels, action: int = STAY) -> Any:
    return game.step(np.int64(action))


def test_catch_spec_is_uint8_image_with_one_discrete_head() -> None:
    env = make("CatchPixels-v0")
    spec = spec_of(env)
    assert spec.game == "CatchPixels-v0"
    assert spec.observations == (Observation("uint8", (HEIGHT, WIDTH)),)
    assert spec.actions == (Discrete("action", 3),)
    env.close()


def test_catch_passes_gymnasium_env_checker() -> None:
    check_env(CatchPixels(), skip_render_check=True)


def test_catch_expert_catches_every_ball() -> None:
    expert = find("CatchPixels-v0")
    assert expert is not None
    assert returns("CatchPixels-v0", expert, 30) == [BALLS] * 30


def test_catch_policy_following_ball_scores_low() -> None:
    assert statistics.fmean(returns("CatchPixels-v0", follow, 60)) < 0.3 * BALLS


class LooksTwice:
    """Knows the rules and sees pictures alone: stays until it has seen a ball twice."""

    def __init__(self) -> None:
        self.before: np.ndarray | None = None

    def __call__(self, _env: Any, picture: np.ndarray) -> np.int64:
        row, column = np.argwhere(picture == 255)[0]
        before, self.before = self.before, np.array([row, column])
        if before is None or row < before[0] or row == HEIGHT - 1:
            return np.int64(STAY)
        game = CatchPixels()
        game.row, game.column, game.speed = row, column, column - before[1]
        paddle = int(np.flatnonzero(picture[-1] == 128).mean())
        return np.int64(STAY + np.sign(game.landing - paddle))


def test_catch_policy_using_two_frames_scores_high() -> None:
    """All but those that bounce between the two pictures, whose speed is not what it seems."""
    assert statistics.fmean(returns("CatchPixels-v0", LooksTwice(), 60)) > 0.7 * BALLS


def test_catch_first_frame_is_equal_for_every_ball_speed() -> None:
    """Balls of all speeds look alike, have to be caught in different places, and differ in the
    next picture."""
    landings, first, second = [], [], []
    for speed in SPEEDS:
        game = CatchPixels()
        game.reset(seed=0)
        game.column, game.speed = WIDTH // 2, speed
        first.append(game.picture())
        landings.append(game.landing)
        second.append(step_game(game)[0])
    assert all((picture == first[0]).all() for picture in first)
    assert len({picture.tobytes() for picture in second}) == len(SPEEDS)
    assert max(landings) - min(landings) > AWAY[1]
    assert len(set(landings)) == len(SPEEDS)


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("column", [0, 1, 9, WIDTH - 2, WIDTH - 1])
def test_catch_ball_lands_at_predicted_column(column: int, speed: int) -> None:
    game = CatchPixels()
    game.reset(seed=0)
    game.column, game.speed = column, speed
    landing = game.landing
    for step in range(STEPS):
        (there,) = np.argwhere(game.picture() == 255)
        assert tuple(there) == (catch.FALL * step, game.column)
        assert game.landing == landing
        _, reward, *_ = step_game(game)
        assert (reward != 0) == (step == STEPS - 1)
    assert (game.row, game.column) == (HEIGHT - 1, landing)
    assert reward == (1 if abs(landing - game.paddle) <= REACH else -1)


def test_catch_balls_land_within_reachable_distance() -> None:
    game = CatchPixels()
    game.reset(seed=3)
    away = []
    for paddle in list(range(REACH, WIDTH - REACH)) * 20:
        game.paddle = paddle
        game._throw()
        away.append(abs(game.landing - paddle))
    assert (min(away), max(away)) == AWAY
    assert AWAY[1] <= STEPS - 1, "from the second picture on"


def test_catch_episode_rewards_once_per_ball_then_terminates() -> None:
    game = CatchPixels()
    game.reset(seed=1)
    rewards, over = [], False
    while not over:
        _, reward, over, truncated, _ = game.step(catch.expert(game, np.empty(0)))
        assert not truncated
        rewards.append(reward)
    assert len(rewards) == BALLS * (STEPS + 1) - 1
    assert [at for at, reward in enumerate(rewards) if reward] == [
        (STEPS + 1) * ball + STEPS - 1 for ball in range(BALLS)
    ]


def test_catch_paddle_stays_within_image() -> None:
    game = CatchPixels()
    game.reset(seed=0)
    assert game.paddle == WIDTH // 2
    for action, end in ((LEFT, REACH), (RIGHT, WIDTH - 1 - REACH)):
        for _ in range(WIDTH):
            picture, *_ = step_game(game, action)
        assert game.paddle == end
        assert (picture[-1] > 0).sum() >= 2 * REACH + 1


def test_catch_same_seed_repeats_episode() -> None:
    def pictures(seed: int) -> bytes:
        game = CatchPixels()
        seen = [game.reset(seed=seed)[0]]
        seen += [step_game(game)[0] for _ in range(60)]
        return np.stack(seen).tobytes()

    assert pictures(1) == pictures(1) != pictures(2)
