"""Gymnasium's spaces and the wire's: action heads and observations, both ways.

Supported actions: Discrete, MultiDiscrete, Box of floats, and Dict or Tuple of supported ones.
Supported observations: Box of float32, float64 or bool (sent as float32), or uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from gymnasium import spaces

from understudy_client.observations import Observation
from understudy_client.spec import Continuous, Discrete, Head, Part

SUPPORTED = "Discrete, MultiDiscrete, Box of floats, or Dict or Tuple of those"


@dataclass(frozen=True, slots=True)
class ActionSpace:
    """An action space as heads, and the two conversions."""

    heads: tuple[Head, ...]
    _take: Callable[[Iterator[Part]], Any]
    _give: Callable[[Any], Sequence[Part]]

    def to_env(self, action: Sequence[Part]) -> Any:
        """An action of the wire, one part for each head, as `env.step` wants it."""
        if len(action) != len(self.heads):
            raise ValueError(f"expected an action of {len(self.heads)} parts, got {action!r}")
        return self._take(iter(action))

    def to_wire(self, action: Any) -> list[Part]:
        """An action of the environment, one part for each head.

        Continuous values are clipped to their head: an expert may overshoot by a rounding error.
        """
        return list(self._give(action))


def action_space(space: spaces.Space[Any], name: str = "") -> ActionSpace:
    """The heads of a Gymnasium action space. Errors: TypeError, ValueError, naming the part.

    A head is named after its place: the Dict's key or the Tuple's index, joined by dots where
    they nest, `[i]` behind it where a space makes several heads, `action` where there is nothing
    to name it after.
    """
    match space:
        case spaces.Discrete():
            return _discrete(space, name or "action")
        case spaces.MultiDiscrete():
            return _multi_discrete(space, name or "action")
        case spaces.Box():
            return _box(space, name or "action")
        case spaces.Dict():
            keys = list(space.spaces)
            parts = [action_space(space.spaces[key], _join(name, key)) for key in keys]
            return ActionSpace(
                _heads(parts),
                lambda rest: {k: p._take(rest) for k, p in zip(keys, parts, strict=True)},
                lambda action: _flat(p._give(action[k]) for k, p in zip(keys, parts, strict=True)),
            )
        case spaces.Tuple():
            items = [action_space(s, _join(name, i)) for i, s in enumerate(space.spaces)]
            return ActionSpace(
                _heads(items),
                lambda rest: tuple(item._take(rest) for item in items),
                lambda action: _flat(i._give(a) for i, a in zip(items, action, strict=True)),
            )
        case _:
            where = f" for {name!r}" if name else ""
            raise TypeError(f"action space{where}: expected {SUPPORTED}, got {space}")


def observation_space(space: spaces.Space[Any]) -> Observation:
    """The tensor that frames of this observation space carry. Errors: TypeError."""
    if isinstance(space, spaces.Box):
        shape = tuple(int(side) for side in space.shape) or (1,)
        if space.dtype in (np.float32, np.float64, np.bool_):
            return Observation("float32", shape)
        if space.dtype == np.uint8:
            return Observation("uint8", shape)
    raise TypeError(
        f"observation space: expected Box of float32, float64, bool or uint8, got {space}; "
        "wrap the environment (gymnasium.wrappers.FlattenObservation, for example)"
    )


def _discrete(space: spaces.Discrete, name: str) -> ActionSpace:
    n, start = int(space.n), int(space.start)
    if n < 2:
        _refuse(name, "at least 2 choices", space)
    return ActionSpace(
        (Discrete(name, n),),
        lambda rest: np.int64(next(rest) + start),  # type: ignore[operator]
        lambda action: [int(action) - start],
    )


def _multi_discrete(space: spaces.MultiDiscrete, name: str) -> ActionSpace:
    if space.nvec.min() < 2:
        _refuse(name, "at least 2 choices for each entry", space)
    choices = space.nvec.ravel().tolist()

    def take(rest: Iterator[Part]) -> Any:
        flat = np.array([next(rest) for _ in choices], space.dtype)
        return flat.reshape(space.shape) + space.start

    return ActionSpace(
        tuple(Discrete(f"{name}[{i}]", n) for i, n in enumerate(choices)),
        take,
        lambda action: (np.asarray(action) - space.start).ravel().tolist(),
    )


def _box(space: spaces.Box, name: str) -> ActionSpace:
    if space.dtype is None or space.dtype.kind != "f":
        _refuse(name, "a Box of floats", space)
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        _refuse(
            name,
            "finite bounds (gymnasium.wrappers.RescaleAction or a Box of your own gives them)",
            space,
        )
    if not (space.low < space.high).all():
        _refuse(name, "low < high everywhere", space)
    lows, highs = space.low.ravel().tolist(), space.high.ravel().tolist()
    size = len(lows)
    uniform = len(set(lows)) == len(set(highs)) == 1
    heads: tuple[Head, ...]
    if uniform:
        heads = (Continuous(name, lows[0], highs[0], size),)
    else:
        heads = tuple(Continuous(f"{name}[{i}]", lows[i], highs[i], 1) for i in range(size))

    def take(rest: Iterator[Part]) -> Any:
        # A head of one number comes as the number itself.
        values = np.ravel(np.array([next(rest) for _ in heads], np.float64))
        # An array even where the space has no sides, which NumPy would make a plain number.
        return np.asarray(np.clip(values.reshape(space.shape), space.low, space.high), space.dtype)

    def give(action: Any) -> Sequence[Part]:
        values = np.asarray(action, np.float64).reshape(space.shape)
        flat: list[float] = np.clip(values, space.low, space.high).ravel().tolist()
        return [flat] if uniform and size > 1 else flat

    return ActionSpace(heads, take, give)


def _join(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


def _heads(parts: Sequence[ActionSpace]) -> tuple[Head, ...]:
    return tuple(head for part in parts for head in part.heads)


def _flat(lists: Iterator[Sequence[Part]]) -> list[Part]:
    return [part for some in lists for part in some]


def _refuse(name: str, expected: str, space: spaces.Space[Any]) -> NoReturn:
    raise ValueError(f"action space for {name!r}: expected {expected}, got {space}")
