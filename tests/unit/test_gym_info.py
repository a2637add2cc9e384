"""Numbers and parts of the reward that environments of Gymnasium have in `info`."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from server.play.env_options import add_env_options, env_options
from tests.support.spaced import Spaced
from understudy_client.gym import play, spec_of
from understudy_client.wire import Answer


class Walker(Spaced):
    """Earns 1 a step, of which `forward` explains more and more; an episode has 10 steps."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, _ = super().step(action)
        info = {"forward": np.float32(0.25 * self._frames), "place": self._frames, "on": True}
        return obs, reward, terminated, truncated, info


class FakeClient:
    def __init__(self, env: Any, metrics: tuple[str, ...] = (), rewards: tuple[str, ...] = ()):
        self.spec = spec_of(env, rewards=rewards)
        self.metrics = metrics
        self.rewards: list[Any] = []
        self.told: list[Any] = []

    def act(self, _obs: Any, reward: Any, status: int, *_: Any, metrics: Any, **_more: Any) -> Any:
        self.rewards.append(reward)
        self.told.append(metrics)
        return Answer(0, 0, None if status else [0], 0 if status else 1, 0, False)


def test_declared_numbers_of_info_are_told_where_they_are() -> None:
    client: Any = FakeClient(Walker(), metrics=("place", "on", "never"))
    play(Walker(), client, episodes=1)
    assert client.told[0] == {}, "a reset's info has none of them"
    assert client.told[1] == {"place": 1.0, "on": 1.0}
    assert client.told[10] == {"place": 10.0, "on": 1.0}, "its last frame tells too"
    assert client.rewards[1:] == [1.0] * 10


def test_game_that_declares_no_numbers_tells_none() -> None:
    client: Any = FakeClient(Walker())
    play(Walker(), client, episodes=1)
    assert client.told == [None] * 11
    assert client.spec.rewards == ("reward",)


def test_parts_of_the_reward_add_up_to_it() -> None:
    client: Any = FakeClient(Walker(), rewards=("forward", "missing"))
    assert client.spec.rewards == ("forward", "missing", "rest")
    returns = []
    play(Walker(), client, episodes=1, on_episode=lambda episode: returns.append(episode.return_))
    assert client.rewards[1:3] == [[0.25, 0.0, 0.75], [0.5, 0.0, 0.5]]
    assert [sum(parts) for parts in client.rewards[1:]] == [1.0] * 10
    assert returns == [10.0]


def test_what_is_no_number_or_no_name_is_said() -> None:
    class Speaks(Spaced):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return *super().step(action)[:4], {"place": "here"}

    client: Any = FakeClient(Speaks(), metrics=("place",))
    with pytest.raises(ValueError, match=r"info\['place'\]: expected a number, got 'here'"):
        play(Speaks(), client, episodes=1)
    with pytest.raises(ValueError, match="rewards: expected names other than 'rest'"):
        spec_of(Spaced(seen=spaces.Box(0, 1, (2,))), rewards=("rest",))


def test_names_are_read_from_options() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_env_options(parser)
    found = env_options(parser.parse_args(["--metrics", "place,on", "--rewards", "forward"]))
    assert (found.metrics, found.rewards) == (("place", "on"), ("forward",))
    for text in ("place,", "place,place", ""):
        with pytest.raises(argparse.ArgumentError, match="expected KEY,KEY, each once"):
            parser.parse_args(["--metrics", text])
