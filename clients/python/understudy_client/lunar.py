"""LunarLander with both kinds of head, and Gymnasium's own heuristic as the expert.

`gymnasium.make("understudy_client.lunar:LunarLanderHybrid-v3")`: LunarLander-v3 in its continuous
form, with the main engine off or on (discrete) and the lateral engines continuous. "On" is full
throttle: the heuristic fires in short bursts of it, and half throttle cannot hold the lander.

Mean return of the expert over 300 episodes (+- standard error): hybrid 282 +- 1, LunarLander-v3
242 +- 6; `python -m understudy_client.experts LunarLanderHybrid-v3 300` measures it.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

with warnings.catch_warnings():
    # Box2D's bindings warn about themselves while they load, and crash the interpreter where
    # warnings are errors.
    warnings.simplefilter("ignore", DeprecationWarning)
    from gymnasium.envs.box2d import lunar_lander

HYBRID = "LunarLanderHybrid-v3"


class HybridActions(gymnasium.ActionWrapper[Any, Any, Any]):
    """Actions {"main": 0 or 1, "lateral": float32 [1]} for a continuous LunarLander.

    As in LunarLander, a lateral value within (-0.5, 0.5) fires neither side engine.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        # Ordered, because a plain dict would be sorted, and the main engine comes first.
        self.action_space = spaces.Dict(
            OrderedDict(main=spaces.Discrete(2), lateral=spaces.Box(-1.0, 1.0, (1,)))
        )

    def action(self, action: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        throttle = 1.0 if action["main"] else 0.0
        return np.array([throttle, float(action["lateral"][0])], np.float32)


def make_hybrid(render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    """The environment without a time limit; `gymnasium.make` adds that."""
    return HybridActions(lunar_lander.LunarLander(render_mode=render_mode, continuous=True))


if HYBRID not in gymnasium.registry:
    gymnasium.register(
        HYBRID,
        entry_point="understudy_client.lunar:make_hybrid",
        max_episode_steps=1000,
        reward_threshold=200,
    )


def heuristic(env: gymnasium.Env[Any, Any], obs: npt.NDArray[np.float32]) -> Any:
    """Gymnasium's heuristic for LunarLander-v3, discrete or continuous as the env is."""
    return lunar_lander.heuristic(env, obs)  # type: ignore[no-untyped-call]


def hybrid_heuristic(
    env: gymnasium.Env[Any, Any], obs: npt.NDArray[np.float32]
) -> dict[str, int | npt.NDArray[np.float32]]:
    """The heuristic's continuous form: main engine on where it asks for any throttle."""
    throttle, lateral = heuristic(env, obs)
    return {"main": int(throttle > 0), "lateral": np.array([lateral], np.float32)}
