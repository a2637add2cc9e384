"""Wrappers for `--wrap`: what Gymnasium's own do not do."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.wrappers import TransformObservation

from understudy_client.spaces import told

NUMBERS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def only_numbers(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """The environment without those parts of its observations that are no numbers, pictures or
    choices: texts, graphs, sequences. Errors: ValueError where nothing else is left."""
    space = _kept(env.observation_space)
    if space is None:
        raise ValueError(
            f"expected numbers among the observations, got {told(env.observation_space)}; turn it "
            "into numbers with gymnasium.wrappers.TransformObservation"
        )
    return TransformObservation(env, lambda obs: _taken(space, obs), space)


def _kept(space: spaces.Space[Any]) -> spaces.Space[Any] | None:
    """What is left of a space; of a Tuple as a Dict of its indices."""
    parts: dict[Any, spaces.Space[Any]]
    match space:
        case spaces.Dict():
            parts = dict(space.spaces)
        case spaces.Tuple():
            parts = dict(enumerate(space.spaces))
        case _:
            return space if isinstance(space, NUMBERS) else None
    kept = {key: inner for key, each in parts.items() if (inner := _kept(each)) is not None}
    return spaces.Dict(kept, sort_keys=False) if kept else None


def _taken(space: spaces.Space[Any], obs: Any) -> Any:
    if not isinstance(space, spaces.Dict):
        return obs
    return {key: _taken(each, obs[key]) for key, each in space.spaces.items()}
