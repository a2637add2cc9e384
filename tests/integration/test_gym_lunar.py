"""LunarLander with a discrete and a continuous head, and its experts."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest

from understudy_client import lunar
from understudy_client.environments import make
from understudy_client.experts import find, returns
from understudy_client.gym import spec_of
from understudy_client.spec import Continuous, Discrete, Observation


def test_hybrid_lander_spec_has_discrete_and_continuous_head() -> None:
    import gymnasium

    env = gymnasium.make("understudy_client.lunar:LunarLanderHybrid-v3")
    spec = spec_of(env)
    assert spec.game == "LunarLanderHybrid-v3"
    assert spec.observations == (Observation("float32", (8,)),)
    assert spec.actions == (Discrete("main", 2), Continuous("lateral", -1.0, 1.0, 1))
    assert env.spec is not None
    assert env.spec.max_episode_steps == 1000
    env.close()


@pytest.mark.parametrize(("main", "throttle"), [(0, 0.0), (1, 1.0)])
def test_hybrid_lander_actions_match_continuous_lander(main: int, throttle: float) -> None:
    hybrid, plain = make("LunarLanderHybrid-v3"), make("LunarLanderContinuous-v3")
    hybrid.reset(seed=3)
    plain.reset(seed=3)
    for _ in range(20):
        got = hybrid.step({"main": main, "lateral": np.array([0.75], np.float32)})
        want = plain.step(np.array([throttle, 0.75], np.float32))
        np.testing.assert_array_equal(got[0], want[0])
        assert got[1] == want[1]
    hybrid.close()
    plain.close()


def test_hybrid_heuristic_fires_main_engine_only_when_falling() -> None:
    env: Any = make("LunarLanderHybrid-v3")
    falling = np.array([0, 1, 0, -1.5, 0, 0, 0, 0], np.float32)
    rising = np.array([0, 1, 0, 1.5, 0, 0, 0, 0], np.float32)
    assert lunar.hybrid_heuristic(env, falling)["main"] == 1
    assert lunar.hybrid_heuristic(env, rising)["main"] == 0
    assert env.action_space.contains(lunar.hybrid_heuristic(env, falling))
    env.close()


@pytest.mark.parametrize(
    ("env_id", "least"), [("LunarLanderHybrid-v3", 270), ("LunarLander-v3", 180)]
)
def test_lunar_lander_experts_reach_minimum_return(env_id: str, least: float) -> None:
    expert = find(env_id)
    assert expert is not None
    assert statistics.fmean(returns(env_id, expert, 12)) > least
