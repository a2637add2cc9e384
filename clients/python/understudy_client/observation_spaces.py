"""Gymnasium's observation spaces as what frames carry: numbers, pictures and choices, nested.

Taken: Box of any dtype, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from understudy_client.checks import shown
from understudy_client.observations import Observation
from understudy_client.spaces import told

Array = npt.NDArray[Any]

MOST_SIDES = 4
"""What has more is sent flat: no network has a use for them."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A space without others in it, and where it lies in the observation."""

    path: tuple[Any, ...]
    observation: Observation
    encode: Callable[[Any], Array]
    """A value of the space as an array of `observation`."""


@dataclass(frozen=True, slots=True)
class ObservationSpace:
    """An observation space as what frames carry, and the conversion."""

    space: spaces.Space[Any]
    observation: Observation
    leaves: tuple[Leaf, ...]

    def to_wire(self, obs: Any) -> Array:
        """An observation of the environment as it travels. Errors: ValueError."""
        try:
            parts = [leaf.encode(_at(obs, leaf.path)) for leaf in self.leaves]
            if len(parts) == 1:
                return parts[0]
            return np.concatenate([part.ravel() for part in parts]).astype(np.float32)
        except (TypeError, ValueError, LookupError) as error:
            raise ValueError(
                f"expected the environment to return an observation of {told(self.space)}, got "
                f"{shown(obs)}"
            ) from error


def observation_space(space: spaces.Space[Any]) -> ObservationSpace:
    """What frames of this observation space carry. Errors: TypeError, ValueError, naming the part.

    Several parts travel behind each other as one row of float32; a choice is 1 in its place and 0
    in the others.
    """
    leaves = tuple(_leaves(space, ()))
    if not leaves:
        raise ValueError(f"observation space: expected at least one number, got {told(space)}")
    if len(leaves) == 1:
        return ObservationSpace(space, leaves[0].observation, leaves)
    size = sum(int(np.prod(leaf.observation.shape)) for leaf in leaves)
    return ObservationSpace(space, Observation("float32", (size,)), leaves)


def _leaves(space: spaces.Space[Any], path: tuple[Any, ...]) -> Iterator[Leaf]:
    match space:
        case spaces.Dict():
            for key, each in space.spaces.items():
                yield from _leaves(each, (*path, key))
        case spaces.Tuple():
            for i, each in enumerate(space.spaces):
                yield from _leaves(each, (*path, i))
        case spaces.Discrete():
            yield _choices(path, np.array([space.n]), np.array([space.start]))
        case spaces.MultiDiscrete():
            yield _choices(path, space.nvec.ravel(), space.start.ravel())
        case spaces.MultiBinary():
            yield _numbers(path, space.shape, "float32")
        case spaces.Box():
            if 0 not in space.shape:  # nothing is seen there
                yield _numbers(path, space.shape, "uint8" if space.dtype == np.uint8 else "float32")
        case _:
            where = f" {_name(path)!r}" if path else ""
            raise TypeError(
                f"observation space{where}: expected Box, Discrete, MultiDiscrete, MultiBinary, or "
                f"Dict or Tuple of those, got {told(space)}; {_cure(path)}"
            )


def _cure(path: tuple[Any, ...]) -> str:
    own = "turn it into numbers with gymnasium.wrappers.TransformObservation in a --wrap function"
    return (
        f"leave it out with --wrap understudy_client.wrappers:only_numbers, or {own}"
        if path
        else own
    )


def _numbers(path: tuple[Any, ...], shape: tuple[int, ...], dtype: str) -> Leaf:
    # What has no sides travels as one number.
    sides = tuple(int(side) for side in shape) or (1,)
    if len(sides) > MOST_SIDES:
        sides = (int(np.prod(sides)),)

    def encode(value: Any) -> Array:
        if dtype == "uint8":  # not cast: a value that does not fit would change unseen
            return np.asarray(value).reshape(sides)
        with np.errstate(over="ignore"):  # it is infinite then, which is refused
            return np.asarray(value, np.float32).reshape(sides)

    return Leaf(path, Observation(dtype, sides), encode)


def _choices(path: tuple[Any, ...], n: Array, start: Array) -> Leaf:
    """One or several choices, of which each is one-hot."""
    size, offsets = int(n.sum()), np.cumsum(n) - n

    def encode(value: Any) -> Array:
        chosen = np.asarray(value, np.int64).ravel() - start
        if chosen.shape != n.shape or (chosen < 0).any() or (chosen >= n).any():
            raise ValueError(f"expected choices below {n.tolist()}, got {chosen.tolist()}")
        row = np.zeros(size, np.float32)
        row[offsets + chosen] = 1.0
        return row

    return Leaf(path, Observation("float32", (size,)), encode)


def _at(obs: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        obs = obs[key]
    return obs


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(str(key) for key in path)
