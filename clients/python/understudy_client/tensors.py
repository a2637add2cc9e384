"""Arrays as bytes of the wire: little-endian, C order, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "uint8": np.dtype("u1"),
    "float16": np.dtype("<f2"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "bool": np.dtype("?"),
}
"""The tensor types of the wire: little-endian, C order."""

_TAKEN = {"f": "fiub", "i": "iub", "u": "u", "b": "b"}
"""Of which kinds of numbers (NumPy's letters) each kind is made without a word: those that keep
their value, and for floats those that are near."""


def tensor(
    values: npt.ArrayLike,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    name: str,
    *,
    finite: bool = True,
) -> memoryview:
    """The values as bytes of the wire: see `array`."""
    return array(values, dtype, shape, name, finite=finite).data


def array(
    values: npt.ArrayLike,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    name: str,
    *,
    finite: bool = True,
) -> npt.NDArray[Any]:
    """The values as an array of that dtype and shape, in C order.

    Any numbers become floats, and are finite unless NaN means something (`finite`); whole numbers
    become integers that can hold them; uint8 and bool take nothing else. Errors: ValueError.
    """
    found = array_of(values, name, shape)
    if found.dtype != dtype:
        with np.errstate(over="ignore"):  # it is infinite then, which is refused below
            made = found.astype(dtype) if found.dtype.kind in _TAKEN[dtype.kind] else None
        if made is None or (dtype.kind in "iu" and not (made == found).all()):
            raise ValueError(
                f"{name}: expected {dtype.name} {list(shape)}, got {dtype_of(found)}; convert it "
                "yourself, so that no value changes unseen"
            )
        found = made
    if found.shape != shape:
        raise ValueError(f"{name}: expected shape {list(shape)}, got {list(found.shape)}")
    if finite and dtype.kind == "f" and not np.isfinite(found).all():
        at = np.argwhere(~np.isfinite(found))[0].tolist()
        raise ValueError(
            f"{name}: expected finite numbers, got {found[tuple(at)]} in element {at}; check what "
            "the game computes"
        )
    return found if found.flags.c_contiguous else np.ascontiguousarray(found)


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
