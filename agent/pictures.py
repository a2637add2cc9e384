"""Which observations are pictures, and what their sides mean."""

from __future__ import annotations

from protocol.spaces import Observation

SMALLEST = 8
"""Pictures with a shorter side are none: too few places for a filter to slide over."""

COLORS = 4
"""A side of at most this is that of the colors."""


def is_picture(observation: Observation) -> bool:
    """Whether these observations are pictures: uint8, two sides and perhaps colors."""
    shape = observation.shape
    if observation.dtype != "uint8" or len(shape) not in (2, 3):
        return False
    if len(shape) == 3 and min(shape[0], shape[2]) > COLORS:
        return False
    return min(sides(shape)[1:]) >= SMALLEST


def sides(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Colors, height and width of a picture's shape. Two-sided pictures are gray; of three sides
    the first or the last is that of the colors, whichever is at most COLORS."""
    if len(shape) == 2:
        return 1, shape[0], shape[1]
    return shape if colors_first(shape) else (shape[2], shape[0], shape[1])  # type: ignore[return-value]


def colors_first(shape: tuple[int, ...]) -> bool:
    """Whether the first of three sides is that of the colors."""
    return shape[0] <= COLORS
