"""agent/pictures.py: which observations are pictures."""

from __future__ import annotations

from typing import Any

import pytest

from agent.pictures import is_picture
from protocol.observations import channel_sides, height_and_width
from protocol.spaces import Observation


@pytest.mark.parametrize(
    ("dtype", "shape", "expected"),
    [
        ("uint8", (84, 84), True),
        ("uint8", (8, 8), True),
        ("uint8", (7, 84), False),
        ("uint8", (3, 84, 84), True),
        ("uint8", (84, 84, 3), True),
        ("uint8", (84, 84, 4), True),
        ("uint8", (84, 84, 5), False),
        ("uint8", (3, 84, 7), False),
        ("uint8", (84,), False),
        ("uint8", (2, 3, 84, 84), False),
        ("float32", (84, 84), False),
    ],
)
def test_is_picture_accepts_uint8_of_two_sides_and_channels(
    dtype: str, shape: tuple[int, ...], expected: bool
) -> None:
    assert is_picture(Observation(dtype, shape)) is expected


def named(dtype: str, shape: tuple[int, ...], **more: Any) -> Observation:
    return Observation(dtype, shape, "eye", **more)


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        (named("uint8", (84, 84, 12)), True),
        (named("uint8", (4, 84, 84, 3)), True),
        (named("uint8", (16, 16)), True),
        (named("uint8", (15, 16)), False),
        (named("uint8", (7, 7, 3)), False),
        (named("uint8", (5, 5), kind="picture"), True),
        (named("uint8", (4, 7)), False),
        (named("bool", (10, 10, 4)), False),
        (named("bool", (10, 10, 4), kind="picture"), True),
        (named("bool", (20, 20, 4)), True),
        (named("bool", (18,)), False),
        (named("float32", (84, 84, 3)), False),
        (named("float32", (84, 84, 3), low=0, high=1), True),
        (named("float16", (3, 84, 84), low=0, high=1), True),
        (named("int32", (19, 19, 2), low=0, high=10), True),
        (named("int32", (9, 9, 2), low=0, high=10), False),
        # Two sides of floats are a table as often as a picture.
        (named("float32", (84, 84), low=0, high=1), False),
        (named("float32", (84, 84), kind="picture"), True),
        (named("uint8", (84, 84, 3), kind="numbers"), False),
        (named("uint8", (7, 7, 3), kind="choice", n=11), False),
    ],
)
def test_is_picture_of_named_observation_follows_dtype_sides_and_bounds(
    observation: Observation, expected: bool
) -> None:
    assert is_picture(observation.checked()) is expected


@pytest.mark.parametrize(
    ("shape", "channels", "height", "width"),
    [
        ((20, 30), (), 20, 30),
        ((3, 20, 30), (0,), 20, 30),
        ((20, 30, 3), (2,), 20, 30),
        ((4, 20, 4), (0,), 20, 4),
        ((84, 84, 12), (2,), 84, 84),
        ((12, 84, 84), (0,), 84, 84),
        ((9, 9, 9), (2,), 9, 9),
        ((8, 8, 12), (2,), 8, 8),
        ((12, 8, 8), (0,), 8, 8),
        ((12, 60, 80), (0,), 60, 80),
        ((60, 80, 12), (2,), 60, 80),
        ((4, 84, 80, 3), (0, 3), 84, 80),
        ((4, 3, 84, 80), (0, 1), 84, 80),
    ],
)
def test_channel_sides_of_shape_are_those_that_are_no_height_and_no_width(
    shape: tuple[int, ...], channels: tuple[int, ...], height: int, width: int
) -> None:
    observation = Observation("uint8", shape)
    assert channel_sides(observation) == channels
    assert height_and_width(observation) == (height, width)


def test_channel_sides_given_by_game_are_taken_instead() -> None:
    observation = named("uint8", (9, 3, 9, 9), kind="picture", channels=(1, 2)).checked()
    assert channel_sides(observation) == (1, 2)
    assert height_and_width(observation) == (9, 9)
