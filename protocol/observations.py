"""What a game shows: one observation or several, each a tensor with a name.

A frame carries them one behind the other. Where there is one, rows of it are arrays of its dtype;
where there are several, a row is one *record*: a NumPy structure without gaps, as the bytes lie in
the frame, so that a frame is stored with one copy however many there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from protocol.spec_checks import check_name, refuse

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "uint8": np.dtype("u1"),
    "float16": np.dtype("<f2"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "bool": np.dtype("?"),
}
"""The tensor types of the wire. Little-endian, C order."""

Kind = Literal["numbers", "picture", "choice", "choices"]

MAX_OBSERVATIONS = 32

MAX_CHOICES = 2**20
"""Of one element of an observation."""

NAME = "observation"
"""Of the one observation of a game that gives it no name."""

COLORS = 4
"""A side of at most this is that of the colors, whatever the others are."""

SMALLEST = 5
"""Height and width that a picture has at least: what two small convolutions need."""


class Observation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One tensor that every frame carries."""

    dtype: str
    shape: tuple[int, ...]
    name: str = NAME
    kind: Kind | None = None
    """What it is; None: what dtype, shape and bounds say (agent.looks)."""
    low: float | None = None
    high: float | None = None
    """The range of all its elements, where it is known."""
    n: int | tuple[int, ...] | None = None
    """Kind `choice`: every element is one of so many, 0 to n-1. Kind `choices`: the same, a number
    for each element in C order."""
    channels: tuple[int, ...] | None = None
    """Of a picture: the sides that are no height and no width, by their numbers; None: see
    `channel_sides`."""

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def is_short(self) -> bool:
        """There is nothing to say of it but dtype and shape: it travels as `[dtype, shape]`."""
        return self == Observation(self.dtype, self.shape)

    @property
    def choices(self) -> tuple[int, ...]:
        """How many choices each element has, [size]; nothing where it has none."""
        if self.n is None:
            return ()
        return (self.n,) * self.size if isinstance(self.n, int) else self.n

    def checked(self) -> Observation:
        """This one, if it is valid; RemoteError `bad_hello` that says what is wrong."""
        what = "observation" if self.is_short else f"observation {self.name!r},"
        check_name(what, self.name)
        if self.dtype not in DTYPES:
            refuse(f"{what} dtype", f"{', '.join(DTYPES)}", self.dtype)
        shape = self.shape
        if not shape or len(shape) > 4 or any(side < 1 for side in shape):
            refuse(f"{what} shape", "1 to 4 sides of at least 1", list(shape))
        self._check_bounds(what)
        if self.kind in ("choice", "choices"):
            self._check_choices(what)
        elif self.n is not None:
            refuse(f"{what} n", "it with the kinds choice and choices alone", self.n)
        if self.kind == "picture":
            self._check_picture(what)
        elif self.channels is not None:
            refuse(f"{what} channels", "them with the kind picture alone", self.channels)
        return self

    def describe(self) -> str:
        """It in a few words for messages."""
        text = f"{self.dtype} {list(self.shape)}"
        if self.is_short:
            return text
        more = [] if self.kind is None else [str(self.kind)]
        if self.n is not None:
            more.append(f"n {self.n}")
        if self.low is not None:
            more.append(f"{self.low:g} to {self.high:g}")
        if self.channels is not None:
            more.append(f"channels {list(self.channels)}")
        return " ".join([self.name, text]) + (f" ({', '.join(more)})" if more else "")

    def _check_bounds(self, what: str) -> None:
        low, high = self.low, self.high
        if low is None and high is None:
            return
        # Written so that NaN fails.
        if low is None or high is None or not -math.inf < low < high < math.inf:
            refuse(f"{what} low and high", "finite numbers, low < high, or neither", [low, high])

    def _check_choices(self, what: str) -> None:
        if DTYPES[self.dtype].kind not in "iu":
            refuse(f"{what} dtype", "uint8, int32 or int64 for choices", self.dtype)
        if isinstance(self.n, int) != (self.kind == "choice") or self.n is None:
            wanted = "one number for a choice" if self.kind == "choice" else "a number for each"
            refuse(f"{what} n", wanted, self.n)
        # Nothing as long as the shape is made here: how large that is, is checked later.
        given = (self.n,) if isinstance(self.n, int) else self.n
        if not isinstance(self.n, int) and len(given) != self.size:
            refuse(f"{what} n", f"{self.size} numbers, one for each element", self.n)
        if any(not 1 <= n <= MAX_CHOICES for n in given):
            refuse(f"{what} n", f"numbers of 1 to {MAX_CHOICES}", self.n)

    def _check_picture(self, what: str) -> None:
        sides = len(self.shape)
        given = self.channels
        if sides < 2:
            refuse(f"{what} shape", "2 to 4 sides for a picture", list(self.shape))
        if given is not None and (
            len(set(given)) != sides - 2 or any(not 0 <= side < sides for side in given)
        ):
            refuse(f"{what} channels", f"{sides - 2} different sides of 0 to {sides - 1}", given)
        if min(height_and_width(self)) < SMALLEST:
            refuse(
                f"{what} shape",
                f"height and width of at least {SMALLEST} for a picture (channels: the sides that "
                "are neither)",
                list(self.shape),
            )


def channel_sides(observation: Observation) -> tuple[int, ...]:
    """Which of 2 to 4 sides of a picture are no height and no width, in their order.

    Of two sides none is. Of three it is the first or the last: the one that is at most COLORS, the
    first where both are. Where none is, most pictures are as high as they are wide: it is the one
    that is not as long as the middle one, the last before the first; where neither is as long, the
    shorter. Of four, the first counts pictures that are stacked, and of the other three it is as of
    three.
    """
    if observation.channels is not None:
        return observation.channels
    stacked = len(observation.shape) - 3
    if stacked < 0:
        return ()
    first, middle, last = observation.shape[stacked:]
    if min(first, last) <= COLORS:
        is_first = first <= COLORS
    elif middle in (first, last):
        is_first = first != middle
    else:
        is_first = first < last
    return (*range(stacked), stacked if is_first else stacked + 2)


def height_and_width(observation: Observation) -> tuple[int, int]:
    """Of a picture."""
    channels = channel_sides(observation)
    height, width = (side for i, side in enumerate(observation.shape) if i not in channels)
    return height, width


def wire_form(given: Any) -> Any:
    """Observations as `observation` of HELLO has them: `(dtype, shape)` for one of which there is
    nothing else to say, else all of them. What is in that form already stays."""
    if isinstance(given, Observation):
        given = (given,)
    if not _are_observations(given):
        return given
    if len(given) == 1 and given[0].is_short:
        return given[0].dtype, given[0].shape
    return tuple(given)


class _Short(msgspec.Struct, array_like=True):
    dtype: str
    shape: tuple[int, ...]


class _One(msgspec.Struct):
    observation: _Short


class _Several(msgspec.Struct):
    observation: tuple[Observation, ...]


def observations_of(wire: Any) -> tuple[Observation, ...]:
    """What `observation` of HELLO means, decoded or as `wire_form` gives it. Errors:
    msgspec.ValidationError where it is of neither form."""
    if _are_observations(wire):
        return tuple(wire)
    several = isinstance(wire, list | tuple) and len(wire) > 0 and isinstance(wire[0], dict)
    if several:
        return msgspec.convert({NAME: wire}, _Several).observation
    short = msgspec.convert({NAME: wire}, _One).observation
    return (Observation(short.dtype, short.shape),)


def _are_observations(given: Any) -> bool:
    return (
        isinstance(given, list | tuple)
        and len(given) > 0
        and all(isinstance(each, Observation) for each in given)
    )


def in_one_piece(part: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows [n, ...] in C order and aligned: as they are, or, where they are fields of records, a
    copy. NumPy calls a single row of them contiguous wherever it lies."""
    plain = part.flags.c_contiguous and part.flags.aligned
    if plain and part.strides[0] == part.itemsize * math.prod(part.shape[1:]):
        return part
    return np.array(part, order="C")


def record_dtype(observations: Sequence[Observation]) -> np.dtype[Any]:
    """What a row is an array of: of one observation its elements; of several a record with a field
    for each, named by its place ("0", "1", ...), little-endian and without gaps."""
    if len(observations) == 1:
        return DTYPES[observations[0].dtype]
    return np.dtype(
        [(str(i), DTYPES[each.dtype], each.shape) for i, each in enumerate(observations)]
    )
