"""Which expert plays which environment, how to weaken one, and how to measure one.

`python -m understudy_client.experts ENV EPISODES [WEAKENED [MODULE:FUNCTION]]` prints the mean
return of the known expert, or of that one, over that many episodes, with its standard error.
"""

from __future__ import annotations

import copy
import sys
from typing import Any
from weakref import WeakKeyDictionary

import gymnasium
import numpy as np

from understudy_client.action_masks import Flags, masks_of
from understudy_client.env_options import PLAIN, EnvOptions
from understudy_client.environments import make, named
from understudy_client.gym import Expert, asked

EXPERTS = {
    "CatchPixels-v0": "understudy_client.catch:expert",
    "LunarLander-v3": "understudy_client.lunar:heuristic",
    "LunarLanderContinuous-v3": "understudy_client.lunar:heuristic",
    "LunarLanderHybrid-v3": "understudy_client.lunar:hybrid_heuristic",
    "MinAtar/Asterix-v1": "understudy_client.minatar_experts:asterix",
    "MinAtar/Breakout-v1": "understudy_client.minatar_experts:breakout",
    "MinAtar/Freeway-v1": "understudy_client.minatar_experts:freeway",
    "MinAtar/Seaquest-v1": "understudy_client.minatar_experts:seaquest",
    "MinAtar/SpaceInvaders-v1": "understudy_client.minatar_experts:space_invaders",
    "PongRam-v0": "understudy_client.pong:follow_ball",
}
"""The known expert of each environment, as `module:function`."""


def find(env_id: str, name: str | None = None) -> Expert | None:
    """The expert for an environment: the one named, or the known one, or None.

    name: `module:function`, a function (env, observation) -> action; "none" for no expert.
    Errors: ValueError, saying what could not be found.
    """
    if name == "none":
        return None
    if name is None:
        name = EXPERTS.get(env_id.rpartition(":")[2])
        if name is None:
            return None
    try:
        expert: Expert = named(name)
    except ValueError as error:
        raise ValueError(f"expert {error}") from error
    return expert


def weakened(expert: Expert, probability: float, rng: np.random.Generator) -> Expert:
    """An expert that takes a random action of the environment with this probability, a legal one
    where the environment says what is legal."""
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"probability: expected 0 to 1, got {probability}")
    return _Weakened(expert, probability, rng)


class _Weakened:
    wants_legal = True

    def __init__(self, expert: Expert, probability: float, rng: np.random.Generator) -> None:
        self._expert, self._probability, self._rng = expert, probability, rng
        self._spaces: WeakKeyDictionary[gymnasium.Env[Any, Any], gymnasium.Space[Any]] = (
            WeakKeyDictionary()
        )

    def __call__(self, env: gymnasium.Env[Any, Any], obs: Any, legal: Flags | None = None) -> Any:
        if self._rng.random() >= self._probability:
            return asked(self._expert, env, obs, legal)
        space = self._spaces.get(env)
        if space is None:
            # A copy with a seed of its own: the environment's draws stay what they were.
            space = self._spaces[env] = copy.deepcopy(env.action_space)
            space.seed(int(self._rng.integers(2**31)))
        action = space.sample()
        return action if legal is None else masks_of(env).made_legal(legal, action, self._rng)


def returns(
    env_id: str,
    expert: Expert,
    episodes: int,
    seed: int = 0,
    options: EnvOptions = PLAIN,
) -> list[float]:
    """The returns of an expert playing alone, episode i from seed + i; no server is involved."""
    env = make(env_id, options)
    masks = masks_of(env)
    out = []
    for episode in range(episodes):
        obs, info = env.reset(seed=seed + episode)
        there = masks.are_there(info)
        total, over = 0.0, False
        while not over:
            legal = masks.legal(obs, info) if there else None
            action = asked(expert, env, obs, legal)
            obs, reward, terminated, truncated, info = env.step(action)
            total += float(reward)
            over = terminated or truncated
        out.append(total)
    env.close()
    return out


def _main(env_id: str, episodes: str, probability: str = "0", name: str | None = None) -> None:
    expert = find(env_id, name)
    if expert is None:
        sys.exit(f"{env_id} has no known expert; known are {', '.join(EXPERTS)}")
    weak = weakened(expert, float(probability), np.random.default_rng(0))
    values = np.array(returns(env_id, weak, int(episodes)))
    error = values.std(ddof=1) / np.sqrt(len(values))
    print(f"{env_id}, {episodes} episodes: {values.mean():.1f} +- {error:.1f}")


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 5:
        sys.exit(__doc__)
    _main(*sys.argv[1:])
