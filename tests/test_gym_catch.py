"""Catch as a picture: its rules, and that one picture is not enough."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from understudy_client import catch
from understudy_client.catch import BALLS, LEFT, REACH, RIGHT, SIDE, SPEEDS, STAY, CatchPixels
from understudy_client.experts import find, make, returns
from understudy_client.gym import spec_of
from understudy_client.spec import Discrete, Observation


def follow(env: Any, _obs: Any) -> np.int64:
    """Keeps below the ball."""
    game = env.unwrapped
    return np.int64(STAY + np.sign(game._column - game.paddle))


def test_it_is_a_game_of_pictures() -> None:
    env = make("CatchPixels-v0")
    spec = spec_of(env)
    assert spec.game == "CatchPixels-v0"
    assert spec.observation == Observation("uint8", (SIDE, SIDE))
    assert spec.actions == (Discrete("action", 3),)
    env.close()


def test_gymnasium_finds_nothing_wrong_with_it() -> None:
    check_env(CatchPixels(), skip_render_check=True)


def test_the_expert_catches_every_ball() -> None:
    expert = find("CatchPixels-v0")
    assert expert is not None
    assert returns("CatchPixels-v0", expert, 30) == [BALLS] * 30


def test_following_the_ball_is_too_late() -> None:
    assert statistics.fmean(returns("CatchPixels-v0", follow, 30)) < -0.5 * BALLS


def test_one_picture_does_not_show_where_the_ball_goes_and_two_do() -> None:
    """Balls of all speeds look alike, have to be caught in different places, and differ in the
    next picture."""
    landings, first, second = [], [], []
    for speed in SPEEDS:
        game = CatchPixels()
        game.reset(seed=0)
        game._column, game._speed = 10, speed
        first.append(game._picture())
        landings.append(game.landing)
        second.append(game.step(np.int64(STAY))[0])
    assert all((picture == first[0]).all() for picture in first)
    assert len({picture.tobytes() for picture in second}) == len(SPEEDS)
    assert max(landings) - min(landings) > 2 * REACH


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("column", [0, 1, 9, 18, 19])
def test_it_lands_where_it_says(column: int, speed: int) -> None:
    game = CatchPixels()
    game.reset(seed=0)
    game._column, game._speed = column, speed
    landing = game.landing
    for row in range(SIDE):
        (there,) = np.argwhere(game._picture() == 255)
        assert there[0] == row
        assert game.landing == landing
        if row < SIDE - 1:
            _, reward, *_ = game.step(np.int64(STAY))
    assert there[1] == landing
    assert reward == (1 if abs(landing - game.paddle) <= REACH else -1)


def test_an_episode() -> None:
    game = CatchPixels()
    game.reset(seed=1)
    rewards, over = [], False
    while not over:
        _, reward, over, truncated, _ = game.step(catch.expert(game, np.empty(0)))
        assert not truncated
        rewards.append(reward)
    assert len(rewards) == BALLS * SIDE - 1
    assert [at for at, reward in enumerate(rewards) if reward] == [
        SIDE * ball + SIDE - 2 for ball in range(BALLS)
    ]


def test_the_paddle_stays_within_the_picture() -> None:
    game = CatchPixels()
    picture, _ = game.reset(seed=0)
    assert game.paddle == SIDE // 2
    for move, end in ((LEFT, REACH), (RIGHT, SIDE - 1 - REACH)):
        for _ in range(SIDE - 2):
            picture, *_ = game.step(np.int64(move))
        assert game.paddle == end
        assert (picture[-1] == 128).sum() >= 2 * REACH


def test_a_seed_repeats_an_episode() -> None:
    def pictures(seed: int) -> bytes:
        game = CatchPixels()
        seen = [game.reset(seed=seed)[0]]
        seen += [game.step(np.int64(STAY))[0] for _ in range(60)]
        return np.stack(seen).tobytes()

    assert pictures(1) == pictures(1) != pictures(2)
