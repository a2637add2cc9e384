"""The games of MiniGrid and BabyAI, as their package has them for Gymnasium.

Chevalier-Boisvert et al. 2023 (arXiv:2306.13831). A field is seen as three codes, its thing, colour
and state; they go up to 10, which the game's own bounds (0 to 255) do not say. The mission is a
text. In MiniGrid it is one of a few: it is seen as a choice of so many, and left out where there is
only one. In BabyAI it is a sentence of a language, which a network of numbers cannot read.
"""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled
from gymnasium.wrappers import TransformObservation

NAMES = ("MiniGrid-", "BabyAI-")

LARGEST_CODE = 10
"""That of the agent (minigrid.core.constants)."""


def made(env_id: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """One of the games. Errors: DependencyNotInstalled; those of Gymnasium."""
    try:
        import minigrid  # noqa: F401
        from minigrid.core.mission import MissionSpace
    except ImportError as error:
        raise DependencyNotInstalled(
            "the games of MiniGrid are in the package minigrid, which cannot be imported "
            f"({error}); install it: python -m pip install minigrid"
        ) from error
    env = gymnasium.make(env_id, **kwargs)
    space = env.observation_space
    if not isinstance(space, spaces.Dict):
        return env
    seen = dict(space.spaces)
    seen["image"] = spaces.Box(0, LARGEST_CODE, seen["image"].shape, np.uint8)
    missions: dict[str, int] | None = None
    if type(seen.get("mission")) is MissionSpace:  # not a kind of it: those of BabyAI are sentences
        missions = _missions(seen["mission"])
        del seen["mission"]
        if len(missions) > 1:
            seen["mission"] = spaces.Discrete(len(missions))

    def observed(obs: dict[str, Any]) -> dict[str, Any]:
        if missions is None:
            return obs
        read = obs | {"mission": missions[obs["mission"]]}
        return {key: read[key] for key in seen}

    return TransformObservation(env, observed, spaces.Dict(seen, sort_keys=False))


def _missions(space: Any) -> dict[str, int]:
    """All missions of a game, and the number of each."""
    filled = itertools.product(*(space.ordered_placeholders or ()))
    texts = dict.fromkeys(space.mission_func(*words) for words in filled)
    return {text: number for number, text in enumerate(texts)}
