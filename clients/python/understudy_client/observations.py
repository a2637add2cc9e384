"""What a game shows, and its bytes on the wire.

A game shows one observation or several, each a tensor with a name. What is given to `Client.act` is
an array where there is one, and a mapping from names to arrays where there are several:

    observation=[Observation("uint8", (36, 36, 3), "camera"), Observation("float32", (2,), "speed")]
    client.act({"camera": picture, "speed": [0.5, -1.0]}, reward)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from understudy_client.tensors import DTYPES, array, dtype_of

NAME = "observation"
"""Of the one observation of a game that gives it no name."""


class Observation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One tensor that every frame carries.

    dtype: float32, uint8, float16, int32, int64 or bool; shape: 1 to 4 sides.
    name: the key of its array in what is given to `act`; names differ.
    kind: "picture", "numbers", "choice" (every element is one of `n`, 0 to n-1), or "choices" (the
        same, `n` being a number for each element in C order). None: the server looks at dtype,
        shape and bounds.
    low, high: the range of all elements, where it is known. A picture is scaled by it.
    channels: of a picture, the sides that are no height and no width, where the server would take
        others for them (protocol/SPEC.md, Observations).
    """

    dtype: str
    shape: tuple[int, ...]
    name: str = NAME
    kind: str | None = None
    low: float | None = None
    high: float | None = None
    n: int | tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None

    @property
    def choices(self) -> tuple[int, ...]:
        """How many choices each element has; nothing where it has none."""
        if self.n is None:
            return ()
        return (self.n,) * math.prod(self.shape) if isinstance(self.n, int) else tuple(self.n)


def wire_form(given: Any) -> Any:
    """Observations as HELLO has them: `(dtype, shape)` for one of which there is nothing else to
    say, else all of them. What is in that form already stays."""
    if isinstance(given, Observation):
        given = (given,)
    if not are_observations(given):
        return given
    first = given[0]
    if len(given) == 1 and first == Observation(first.dtype, first.shape):
        return first.dtype, first.shape
    return tuple(given)


def observations_of(wire: Any) -> tuple[Observation, ...]:
    """The other way: what HELLO says, decoded or as `wire_form` gives it."""
    if are_observations(wire):
        return tuple(wire)
    if len(wire) and isinstance(wire[0], Mapping):
        return msgspec.convert(wire, tuple[Observation, ...])
    dtype, shape = wire[0], wire[1]
    return (Observation(dtype, tuple(shape)),)


def are_observations(given: Any) -> bool:
    """Whether that is a list or tuple of observations."""
    return (
        isinstance(given, list | tuple)
        and len(given) > 0
        and all(isinstance(each, Observation) for each in given)
    )


class Packer:
    """Makes bytes of the wire of a game's observations."""

    def __init__(self, observations: Sequence[Observation]) -> None:
        self._observations = observations
        self._records: npt.NDArray[Any] | None = None
        if len(observations) > 1:
            fields = [(each.name, DTYPES[each.dtype], each.shape) for each in observations]
            self._records = np.zeros(1, np.dtype(fields))

    def pack(self, values: Any, slots: int | None = None) -> memoryview:
        """What `act` was given, or, for so many `slots`, `act_all`: then each array has one side
        more, in front. One observation is an array, or a mapping with it; several are a mapping.
        Valid until the next call. Errors: ValueError."""
        front = () if slots is None else (slots,)
        given = self._by_name(values)
        if self._records is None:
            (one,) = self._observations
            name = "obs" if one.name == NAME else f"obs {one.name!r}"
            return _array(one, given[one.name], front, name).data
        records = self._records
        if len(records) != (slots or 1):
            records = self._records = np.zeros(slots or 1, records.dtype)
        for each in self._observations:
            found = _array(each, given[each.name], front, f"obs {each.name!r}")
            records[each.name] = found if front else found[None]
        return records.view(np.uint8).data

    def _by_name(self, values: Any) -> Mapping[str, Any]:
        names = [each.name for each in self._observations]
        if isinstance(values, Mapping):
            if set(values) != set(names):
                raise ValueError(
                    f"obs: expected a mapping with {', '.join(names)}, got one with "
                    f"{', '.join(map(str, values)) or 'nothing'}"
                )
            return values
        if len(names) > 1:
            raise ValueError(
                f"obs: expected a mapping from the names {', '.join(names)} to arrays, got "
                f"{type(values).__name__}"
            )
        return {names[0]: values}


def _array(
    observation: Observation, values: Any, front: tuple[int, ...], name: str
) -> npt.NDArray[Any]:
    """One observation's values as they travel. Errors: ValueError."""
    shape = (*front, *observation.shape)
    found = array(values, DTYPES[observation.dtype], shape, name)
    if choices := observation.choices:
        most = np.array(choices).reshape(observation.shape) - 1
        if not ((found >= 0) & (found <= most)).all():
            at = np.argwhere((found < 0) | (found > most))[0].tolist()
            raise ValueError(
                f"{name}: expected choices that count from 0, got {found[tuple(at)]} in element "
                f"{at}, of dtype {dtype_of(found)}; declare n in Observation as large as they are"
            )
    return found
