"""What the elements of observations may be: finite numbers of a sensible size, and choices that
there are. For whole batches at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.errors import RemoteError
from protocol.observations import DTYPES, NAME, Observation

MAX_VALUE = 1e9
"""The largest reward and the largest element of an observation, by magnitude. Far beyond what a
game can mean, and far enough below the end of float32 that squares and sums over a batch stay
finite: one wild frame must not destroy the network that all games share."""

_FLOAT16_MAX = float(np.finfo(np.float16).max)


def bad_rows(observation: Observation, part: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """Which rows of an observation, [n, ...] in its dtype, hold what it may not hold, [n]; None
    where none does. NaN is expected here: call it where NumPy does not warn of it."""
    limits = _limits(observation)
    if limits is None or not len(part):
        return None
    numbers, (low, high) = _as_numbers(observation, part), limits
    # Written so that NaN fails. Smallest and largest need no memory: look closer only then.
    if not isinstance(high, np.ndarray) and numbers.min() >= low and numbers.max() <= high:
        return None
    bad: npt.NDArray[np.bool_] = np.logical_not(_good(numbers, low, high).all(axis=1))
    return bad if bad.any() else None


def bad_element(observation: Observation, row: npt.NDArray[Any]) -> RemoteError:
    """The error of a row of `bad_rows`, [...]."""
    numbers = _as_numbers(observation, row[None])
    limits = _limits(observation)
    assert limits is not None
    low, high = limits
    element = int(np.argmin(_good(numbers, low, high)[0]))
    got = f"got {numbers[0, element]} in element {element}"
    if observation.name != NAME:
        got += f" of {observation.name!r}"
    if observation.choices:
        most = observation.choices[element] - 1
        return RemoteError(
            "observation_out_of_range",
            f"expected choices from 0 to {most}, {got}; count from 0, or declare more in HELLO",
        )
    if observation.dtype == "bool":
        return RemoteError(
            "observation_out_of_range", f"expected 0 or 1 for bool, {got}; send one of them"
        )
    return RemoteError(
        "observation_not_finite",
        f"expected numbers from -{MAX_VALUE:g} to {MAX_VALUE:g}, {got}; check the game's state "
        "before sending it",
    )


Bound = float | int | npt.NDArray[np.int64]


def _limits(observation: Observation) -> tuple[float, Bound] | None:
    """The least and the largest that an element may be; None where every one may be."""
    if isinstance(observation.n, int):
        return 0, observation.n - 1
    if observation.n is not None:
        return 0, np.array(observation.n, np.int64) - 1
    match DTYPES[observation.dtype].kind, observation.dtype:
        case _, "float16":
            return -_FLOAT16_MAX, _FLOAT16_MAX
        case "f", _:
            return -MAX_VALUE, MAX_VALUE
        case "i", _:
            return int(-MAX_VALUE), int(MAX_VALUE)
        case "b", _:
            return 0, 1
    return None


def _as_numbers(observation: Observation, part: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows of elements, [n, size]; of bool as bytes, for one may be neither 0 nor 1."""
    if observation.dtype == "bool":
        part = part.view(np.uint8)
    return part.reshape(len(part), -1)


def _good(numbers: npt.NDArray[Any], low: float, high: Bound) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = (numbers >= low) & (numbers <= high)  # false for NaN
    return found
