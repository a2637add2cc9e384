"""Gymnasium's action spaces as heads, and actions both ways.

Taken: Discrete, MultiDiscrete, MultiBinary, Box of any dtype, and Dict and Tuple of those. What has
no choice (one of one, a number whose bounds are equal) makes no head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from understudy_client.checks import MAX_HEADS
from understudy_client.spec import Continuous, Discrete, Head, Part

MOST_CHOICES = 256
"""Whole numbers between the bounds of a Box that are choices. Of more, a network learns the number,
which is then rounded."""

LONGEST = 200
"""Characters of a space in a message."""

UNBOUNDED = float(np.finfo(np.float32).max)
"""A bound from here on is none: what travels is float32."""


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


def action_space(space: spaces.Space[Any]) -> ActionSpace:
    """The heads of a Gymnasium action space. Errors: TypeError, ValueError, naming the part.

    A head is named after its place: the Dict's key or the Tuple's index, joined by dots where
    they nest, `[i]` behind it where a space makes several heads, `action` where there is nothing
    to name it after.
    """
    found = _converted(space, "")
    if not found.heads:
        raise ValueError(
            f"action space: expected at least 2 choices somewhere, got {told(space)}; a game "
            "without a choice has nothing to learn"
        )
    if len(found.heads) > MAX_HEADS:
        raise ValueError(
            f"action space: expected at most {MAX_HEADS} heads, got {len(found.heads)}; "
            "make one head of them in a --wrap function: gymnasium.wrappers.RescaleAction(env, "
            "-1, 1) gives all numbers of a Box the same bounds, and TransformAction makes "
            "choices of the numbers of a Box"
        )
    return found


def told(space: spaces.Space[Any]) -> str:
    """A space in one line for messages."""
    text = " ".join(str(space).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def bounded(space: spaces.Space[Any], low: float, high: float) -> spaces.Space[Any]:
    """The same action space, with these bounds where it has none."""
    match space:
        case spaces.Dict():
            inner = {key: bounded(each, low, high) for key, each in space.spaces.items()}
            return spaces.Dict(inner, sort_keys=False)
        case spaces.Tuple():
            return spaces.Tuple([bounded(each, low, high) for each in space.spaces])
        case spaces.Box() if not _has_bounds(space).all():
            below, above = _unbounded(space)
            return spaces.Box(
                np.where(below, low, space.low).astype(space.dtype),
                np.where(above, high, space.high).astype(space.dtype),
                dtype=space.dtype,
            )
        case _:
            return space


def _converted(space: spaces.Space[Any], name: str) -> ActionSpace:
    match space:
        case spaces.Discrete():
            return _choices(name, space, np.array(space.n), np.array(space.start))
        case spaces.MultiDiscrete():
            return _choices(name, space, space.nvec, space.start)
        case spaces.MultiBinary():
            two = np.full(space.shape, 2)
            return _choices(name, space, two, np.zeros_like(two))
        case spaces.Box():
            return _box(space, name)
        case spaces.Dict():
            keys = list(space.spaces)
            parts = [_converted(space.spaces[key], _join(name, key)) for key in keys]
            return ActionSpace(
                _heads(parts),
                lambda rest: {k: p._take(rest) for k, p in zip(keys, parts, strict=True)},
                lambda action: _flat(p._give(action[k]) for k, p in zip(keys, parts, strict=True)),
            )
        case spaces.Tuple():
            items = [_converted(each, _join(name, i)) for i, each in enumerate(space.spaces)]
            return ActionSpace(
                _heads(items),
                lambda rest: tuple(item._take(rest) for item in items),
                lambda action: _flat(i._give(a) for i, a in zip(items, action, strict=True)),
            )
        case _:
            where = f" for {name!r}" if name else ""
            raise TypeError(
                f"action space{where}: expected Discrete, MultiDiscrete, MultiBinary, Box, or Dict "
                f"or Tuple of those, got {told(space)}; choose from a list of such actions with "
                "gymnasium.wrappers.TransformAction in a --wrap function"
            )


def _choices(
    name: str, space: spaces.Space[Any], n: npt.NDArray[Any], start: npt.NDArray[Any]
) -> ActionSpace:
    """A choice of n for each entry, counted from `start`; n and start have the space's shape."""
    name, dtype, shape = name or "action", space.dtype or np.dtype(np.int64), n.shape
    first, open_ = start.ravel(), np.flatnonzero(n.ravel() > 1)
    choices = n.ravel()[open_].tolist()

    def take(rest: Iterator[Part]) -> Any:
        flat = first.copy()
        for i in open_:
            flat[i] += int(next(rest))  # type: ignore[arg-type]
        values = flat.reshape(shape).astype(dtype)
        return values[()] if isinstance(space, spaces.Discrete) else values

    def give(action: Any) -> Sequence[Part]:
        flat = np.asarray(action, np.int64).reshape(n.size) - first
        parts: list[Part] = flat[open_].tolist()
        return parts

    return ActionSpace(
        tuple(
            Discrete(f"{name}[{i}]" if shape else name, k)
            for i, k in zip(open_.tolist(), choices, strict=True)
        ),
        take,
        give,
    )


def _box(space: spaces.Box, name: str) -> ActionSpace:
    name = name or "action"
    if not _has_bounds(space).all():
        _refuse(
            name,
            "finite bounds",
            space,
            "state them: --action-bounds LOW,HIGH (action_bounds of "
            "understudy_client.environments.EnvOptions)",
        )
    whole = space.dtype is not None and space.dtype.kind in "biu"
    if whole:
        low = space.low.astype(np.int64)
        n = space.high.astype(np.int64) - low + 1
        if (n <= MOST_CHOICES).all() and np.count_nonzero(n > 1) <= MAX_HEADS:
            return _choices(name, space, n, low)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    first, open_ = low.ravel(), np.flatnonzero(low.ravel() < high.ravel())
    lows, highs = first[open_].tolist(), high.ravel()[open_].tolist()
    size = len(lows)
    uniform = len(set(lows)) == len(set(highs)) == 1
    heads: tuple[Head, ...]
    if uniform:
        heads = (Continuous(name, lows[0], highs[0], size),)
    else:
        pairs = zip(open_.tolist(), lows, highs, strict=True)
        heads = tuple(Continuous(f"{name}[{i}]", below, above, 1) for i, below, above in pairs)

    def take(rest: Iterator[Part]) -> Any:
        values = first.copy()
        # A head of one number comes as the number itself.
        values[open_] = np.ravel(np.array([next(rest) for _ in heads], np.float64))
        values = np.clip(values.reshape(space.shape), low, high)
        # An array even where the space has no sides, which NumPy would make a plain number.
        return np.asarray(np.rint(values) if whole else values, space.dtype)

    def give(action: Any) -> Sequence[Part]:
        values = np.asarray(action, np.float64).reshape(space.shape)
        flat: list[float] = np.clip(values, low, high).ravel()[open_].tolist()
        return [flat] if uniform and size > 1 else flat

    return ActionSpace(heads, take, give)


def _unbounded(space: spaces.Box) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Where the space has no lower bound, and no upper one: infinity, or the end of its dtype."""
    if space.dtype is not None and space.dtype.kind in "iu" and space.dtype.itemsize > 2:
        ends = np.iinfo(space.dtype.str)
        return space.low <= ends.min, space.high >= ends.max
    if space.dtype is not None and space.dtype.kind == "f":
        return space.low <= -UNBOUNDED, space.high >= UNBOUNDED
    nowhere = np.zeros(space.shape, np.bool_)
    return nowhere, nowhere


def _has_bounds(space: spaces.Box) -> npt.NDArray[np.bool_]:
    below, above = _unbounded(space)
    return ~(below | above)


def _join(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


def _heads(parts: Sequence[ActionSpace]) -> tuple[Head, ...]:
    return tuple(head for part in parts for head in part.heads)


def _flat(lists: Iterator[Sequence[Part]]) -> list[Part]:
    return [part for some in lists for part in some]


def _refuse(name: str, expected: str, space: spaces.Space[Any], cure: str) -> NoReturn:
    raise ValueError(f"action space for {name!r}: expected {expected}, got {told(space)}; {cure}")
