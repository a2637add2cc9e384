"""Gymnasium's observation spaces as observations of the wire: numbers, pictures, choices, nested.

Taken: Box of any dtype, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from understudy_client.checks import MAX_OBSERVATIONS, MAX_SIDES, shown
from understudy_client.observations import NAME, Observation
from understudy_client.spaces import told

Array = npt.NDArray[Any]

MASK = "action_mask"
"""The key of a mask of legal actions, in `info` or beside the observations of a Dict."""

COLOURS = 4
"""A picture of uint8 with at most so many channels is one to the server without a further word."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A space without others in it, and where it lies in the observation."""

    path: tuple[Any, ...]
    observation: Observation
    encode: Callable[[Any], Array]
    """A value of the space as an array of `observation`."""


@dataclass(frozen=True, slots=True)
class ObservationSpace:
    """An observation space as observations of the wire, and the conversion."""

    space: spaces.Space[Any]
    leaves: tuple[Leaf, ...]
    has_mask: bool = False
    """There is a mask of legal actions in it (understudy_client.action_masks), which is none of
    the observations."""

    @property
    def observations(self) -> tuple[Observation, ...]:
        """One for each leaf."""
        return tuple(leaf.observation for leaf in self.leaves)

    def to_wire(self, obs: Any) -> Array | dict[str, Array]:
        """An observation of the environment as `Client.act` takes it: an array, or one for each
        name. Errors: ValueError."""
        try:
            if len(self.leaves) == 1:
                (leaf,) = self.leaves
                return leaf.encode(_at(obs, leaf.path))
            return {leaf.observation.name: leaf.encode(_at(obs, leaf.path)) for leaf in self.leaves}
        except (TypeError, ValueError, LookupError) as error:
            raise ValueError(
                f"expected the environment to return an observation of {told(self.space)}, got "
                f"{shown(obs)}"
            ) from error


def observation_space(space: spaces.Space[Any]) -> ObservationSpace:
    """The observations of this space. Errors: TypeError, ValueError, naming the part.

    One is named after its place: the Dict's key or the Tuple's index, joined by dots where they
    nest.
    """
    has_mask = isinstance(space, spaces.Dict) and MASK in space.spaces
    leaves = tuple(_leaves(space, ()))
    if has_mask:
        leaves = tuple(leaf for leaf in leaves if leaf.path[0] != MASK)
    if not leaves:
        raise ValueError(f"observation space: expected at least one number, got {told(space)}")
    if len(leaves) > MAX_OBSERVATIONS:
        raise ValueError(
            f"observation space: expected at most {MAX_OBSERVATIONS} parts, got {len(leaves)}; "
            "make one of them with --wrap gymnasium.wrappers:FlattenObservation"
        )
    return ObservationSpace(space, leaves, has_mask)


def _leaves(space: spaces.Space[Any], path: tuple[Any, ...]) -> Iterator[Leaf]:
    match space:
        case spaces.Dict():
            for key, each in space.spaces.items():
                yield from _leaves(each, (*path, key))
        case spaces.Tuple():
            for i, each in enumerate(space.spaces):
                yield from _leaves(each, (*path, i))
        case spaces.Discrete():
            yield _choices(path, np.array(space.n), np.array(space.start))
        case spaces.MultiDiscrete():
            yield _choices(path, space.nvec, space.start)
        case spaces.MultiBinary():
            planes = spaces.Box(0, 1, space.shape, np.bool_)  # type: ignore[arg-type]
            yield _box(path, planes)
        case spaces.Box():
            if 0 not in space.shape:  # nothing is seen there
                yield _box(path, space)
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


def _box(path: tuple[Any, ...], space: spaces.Box) -> Leaf:
    dtype = _dtype(space.dtype)
    sides = _sides(space.shape)
    low, high = float(space.low.min()), float(space.high.max())
    # What has one side keeps its unit, whatever its bounds are; uint8 alone is scaled.
    bounds = len(sides) > 1 or dtype == "uint8"
    bounds &= -np.inf < low < high < np.inf
    if dtype == "uint8" and (low, high) == (0, 255):  # as when nothing is said
        bounds = len(sides) > 2 and min(sides[0], sides[-1]) > COLOURS
    observation = Observation(
        dtype,
        sides,
        _name(path) if path else NAME,
        low=low if bounds else None,
        high=high if bounds else None,
    )

    def encode(value: Any) -> Array:
        if dtype in ("float32", "float16"):
            with np.errstate(over="ignore"):  # it is infinite then, which is refused
                return np.asarray(value, dtype).reshape(sides)
        array = np.asarray(value).reshape(sides)
        # Others are not cast: a value that does not fit would change unseen.
        return array != 0 if dtype == "bool" else array

    return Leaf(path, observation, encode)


def _dtype(dtype: Any) -> str:
    """Of the wire, for a Box of this one."""
    dtype = np.dtype(dtype)
    if dtype == np.float16 or dtype.kind == "b":
        return str(dtype)
    if dtype.kind == "f":
        return "float32"
    if dtype == np.uint8:
        return "uint8"
    return "int32" if np.can_cast(dtype, np.int32) else "int64"


def _choices(path: tuple[Any, ...], n: Array, start: Array) -> Leaf:
    """A choice of n for each entry, counted from `start`; n and start have the space's shape."""
    dtype = "uint8" if n.max() <= 256 else "int32"
    sides, sizes = _sides(n.shape), n.ravel().tolist()
    same = len(set(sizes)) == 1
    observation = Observation(
        dtype,
        sides,
        _name(path) if path else NAME,
        kind="choice" if same else "choices",
        n=sizes[0] if same else tuple(sizes),
    )

    def encode(value: Any) -> Array:
        chosen = np.asarray(value, np.int64).reshape(n.shape) - start
        if (chosen < 0).any() or (chosen >= n).any():
            raise ValueError(f"expected choices below {sizes}, got {chosen.tolist()}")
        return chosen.astype(dtype).reshape(sides)

    return Leaf(path, observation, encode)


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape on the wire. What has no sides travels as one number; what has too many, flat: no
    network has a use for them."""
    sides = tuple(int(side) for side in shape) or (1,)
    return sides if len(sides) <= MAX_SIDES else (int(np.prod(sides)),)


def _at(obs: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        obs = obs[key]
    return obs


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(str(key) for key in path)
