"""What a game shows and what it can be told, as HELLO says it.

An action has one part for each *head*, in the order in which the game declares them. The same
action as a flat row of float32 is an *action row*: one column for a discrete head (the index of
the choice), `size` columns for a continuous one. FRAMES, ACTIONS and answer logs carry rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "uint8": np.dtype("u1")}
"""The tensor types of the wire: little-endian, C order."""

Part = int | float | list[float]
"""One head's part of an action: int for discrete, float or list of floats for continuous."""


class Observation(msgspec.Struct, frozen=True, array_like=True):
    """The tensor that every frame carries: `dtype` float32 or uint8, 1 to 4 sides."""

    dtype: str
    shape: tuple[int, ...]


class Discrete(msgspec.Struct, frozen=True, array_like=True, tag="discrete"):
    """A head that is one choice of `n`: 0 to n-1."""

    name: str
    n: int


class Continuous(msgspec.Struct, frozen=True, array_like=True, tag="continuous"):
    """A head of `size` numbers, each within [low, high]."""

    name: str
    low: float
    high: float
    size: int = 1


Head = Discrete | Continuous


class GameSpec(msgspec.Struct, frozen=True):
    """All that a server must know of a game; `Client.connect(..., **spec.fields())`."""

    game: str
    observation: Observation
    actions: tuple[Head, ...]
    rewards: tuple[str, ...] = ("reward",)
    masks: bool = False
    """Frames say which choices are legal (understudy_client.masks)."""

    def fields(self) -> dict[str, Any]:
        return msgspec.structs.asdict(self)


def action_width(heads: Iterable[Head]) -> int:
    """Columns of an action row: one for a discrete head, `size` for a continuous one."""
    return sum(1 if isinstance(head, Discrete) else head.size for head in heads)


def action_row(action: Sequence[Part]) -> list[float]:
    """An action, one part for each head, as the numbers of an action row."""
    row: list[float] = []
    for part in action:
        if isinstance(part, list):
            row.extend(part)
        else:
            row.append(part)
    return row


def tensor(
    values: npt.ArrayLike,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    name: str,
    *,
    finite: bool = True,
) -> memoryview:
    """The values as bytes of the wire: C order, little-endian.

    Any numbers become float32, and are finite unless NaN means something (`finite`); uint8 takes
    uint8 only. Errors: ValueError.
    """
    array = array_of(values, name, shape)
    if array.dtype != dtype:
        if dtype.kind != "f" or array.dtype.kind not in "fiub":
            raise ValueError(
                f"{name}: expected {dtype.name} {list(shape)}, got {dtype_of(array)}; convert it "
                "yourself, so that no value changes unseen"
            )
        with np.errstate(over="ignore"):  # it is infinite then, which is refused below
            array = array.astype(dtype)
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {list(shape)}, got {list(array.shape)}")
    if finite and dtype.kind == "f" and not np.isfinite(array).all():
        at = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ValueError(
            f"{name}: expected finite numbers, got {array[tuple(at)]} in element {at}; check what "
            "the game computes"
        )
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    return array.data


def array_of(values: npt.ArrayLike, name: str, shape: tuple[int, ...] | None) -> npt.NDArray[Any]:
    """The values as an array. Errors: ValueError."""
    if isinstance(values, np.ndarray):
        return values
    try:
        return np.asarray(values)
    except Exception as error:  # of lists of different lengths, or of another library's own
        wanted = "numbers" if shape is None else f"an array of shape {list(shape)}"
        raise ValueError(
            f"{name}: expected {wanted}, got {type(values).__name__} that makes none: {error}"
        ) from error


def dtype_of(array: npt.NDArray[Any]) -> str:
    """What an array is of, in words: NumPy's names for what are no numbers say little."""
    if array.dtype.kind == "O":
        return f"{type(array.flat[0]).__name__ if array.size else 'nothing'} (no numbers)"
    if array.dtype.kind in "US":
        return "text (no numbers)"
    return str(array.dtype)
