"""agent/pictures.py: which observations are pictures."""

from __future__ import annotations

import pytest

from agent.pictures import colors_first, is_picture, sides
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


def test_sides_of_picture_with_channels_first_or_last_are_equal() -> None:
    assert sides((20, 30)) == (1, 20, 30)
    assert sides((3, 20, 30)) == sides((20, 30, 3)) == (3, 20, 30)
    assert colors_first((3, 20, 30))
    assert not colors_first((20, 30, 3))
