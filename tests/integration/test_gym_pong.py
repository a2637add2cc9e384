"""Pong from RAM: what it shows, how an episode goes, and its expert."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

from understudy_client import pong
from understudy_client.environments import make
from understudy_client.experts import find, returns
from understudy_client.gym import spec_of
from understudy_client.pong import BALL_X, BALL_Y, ENEMY_Y, PLAYER_Y
from understudy_client.spec import Discrete, Observation

STAY, UP, DOWN = 0, 1, 2
VELOCITY = 4
ENEMY_SCORE, PLAYER_SCORE = 13, 14


@pytest.fixture(name="env", scope="module")
def _env() -> Iterator[gymnasium.Env[Any, Any]]:
    env = make("PongRam-v0")
    yield env
    env.close()


def episode(env: gymnasium.Env[Any, Any], seed: int, actions: list[int]) -> list[Any]:
    """What an episode shows, playing these actions again and again, until it ends."""
    seen = [env.reset(seed=seed)[0].tolist()]
    for action in itertools.cycle(actions):
        obs, reward, terminated, truncated, _ = env.step(action)
        seen += [obs.tolist(), reward]
        assert not terminated
        if truncated:
            return seen
    raise AssertionError


def test_pong_spec_has_eight_floats_and_one_discrete_head() -> None:
    env = gymnasium.make("understudy_client.pong:PongRam-v0")
    spec = spec_of(env)
    assert spec.game == "PongRam-v0"
    assert spec.observations == (Observation("float32", (8,)),)
    assert spec.actions == (Discrete("action", 3),)
    env.close()


def test_pong_same_seed_repeats_episode(env: gymnasium.Env[Any, Any]) -> None:
    first = episode(env, 1, [UP, STAY])
    other = episode(env, 2, [UP, STAY])
    again = episode(env, 1, [UP, STAY])  # whatever was played before
    assert again == first
    assert other != first
    new = make("PongRam-v0")
    assert episode(new, 1, [UP, STAY]) == first
    new.close()


def test_pong_episode_ends_after_five_points_and_rewards_match_score(env: Any) -> None:
    game = env.unwrapped
    env.reset(seed=3)
    rewards = []
    while True:
        _, reward, _, truncated, _ = env.step(UP)
        rewards.append(reward)
        won, lost = game._ram[PLAYER_SCORE], game._ram[ENEMY_SCORE]
        assert rewards.count(1) == won
        assert rewards.count(-1) == lost
        assert truncated == (won + lost == 5)
        if truncated:
            break
    assert rewards.count(0) == len(rewards) - 5


def test_pong_ball_is_visible_in_every_observation(env: gymnasium.Env[Any, Any]) -> None:
    seen = np.array([obs for obs in episode(env, 4, [DOWN, UP]) if isinstance(obs, list)])
    assert np.abs(seen).max() <= 1.1
    # 44 is the top of the field; 0 is said of a ball that is nowhere.
    assert (seen[:, BALL_Y] * 84 + 122 > 40).all()
    # The ball moves by the same number of pixels, but where it bounces or is lost.
    assert np.isin(np.abs(seen[:, VELOCITY + BALL_X]), (0.0, 0.25, 0.5, 0.75, 1.0)).all()
    assert (np.abs(seen[:, VELOCITY + BALL_X]) == 1).mean() > 0.9


def test_pong_velocities_equal_position_differences(env: gymnasium.Env[Any, Any]) -> None:
    before, _ = env.reset(seed=5)
    pixels = np.array([80, 84, 84, 84]) / np.array([4, 12, 24, 8])
    for action in [UP] * 6 + [DOWN] * 6 + [STAY] * 3:
        obs, *_ = env.step(action)
        np.testing.assert_allclose(obs[4:], (obs[:4] - before[:4]) * pixels, atol=1e-5)
        before = obs


@pytest.mark.parametrize(("action", "sign"), [(UP, -1), (DOWN, 1), (STAY, 0)])
def test_pong_actions_move_paddle(env: Any, action: int, sign: int) -> None:
    # From the middle: other paddles may stand at an end already.
    seed = next(s for s in range(100) if abs(env.reset(seed=s)[0][PLAYER_Y]) < 0.3)
    before, _ = env.reset(seed=seed)
    for _ in range(3):
        obs, *_ = env.step(action)
    assert np.sign(round(obs[PLAYER_Y] - before[PLAYER_Y], 1)) == sign
    assert obs[ENEMY_Y] != before[ENEMY_Y]  # which follows the ball


def test_pong_seeds_give_varied_starts(env: gymnasium.Env[Any, Any]) -> None:
    starts = {tuple(env.reset(seed=seed)[0].tolist()) for seed in range(30)}
    assert len(starts) > 15


def observation(ball_y: float, player_y: float, towards: float) -> np.ndarray[Any, Any]:
    obs = np.zeros(8, np.float32)
    obs[BALL_Y], obs[PLAYER_Y], obs[VELOCITY + BALL_X] = ball_y, player_y, towards
    return obs


@pytest.mark.parametrize(
    ("ball_y", "player_y", "towards", "expected"),
    [
        (-0.5, 0.5, 1.0, UP),
        (0.5, -0.5, 1.0, DOWN),
        (0.0, -8 / 84, 1.0, STAY),
        (0.0, -19 / 84, 1.0, DOWN),
        (0.0, 3 / 84, 1.0, UP),
        (-0.5, 0.5, -1.0, STAY),
    ],
)
def test_pong_expert_follows_approaching_ball(
    env: Any, ball_y: float, player_y: float, towards: float, expected: int
) -> None:
    assert pong.follow_ball(env, observation(ball_y, player_y, towards)) == expected


def test_pong_expert_return_varies_around_zero() -> None:
    expert = find("PongRam-v0")
    assert expert is not None
    values = returns("PongRam-v0", expert, 4)
    assert -3 < np.mean(values) < 3
    assert min(values) < 0 < max(values)
