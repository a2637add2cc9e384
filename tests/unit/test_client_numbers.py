"""Numbers of the game in the client for Python: what is sent, and what is refused before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from understudy_client import numbers

NAMES = ["coins", "height"]


def test_numbers_travel_in_the_order_of_their_names() -> None:
    assert numbers.packed(NAMES, {"height": 2, "coins": np.float32(1.5)}) == [1.5, 2.0]
    assert numbers.packed(NAMES, {"height": 2}) == [None, 2.0]
    data = numbers.packed_all(NAMES, [[1, 2], [3, np.nan]], 2)
    np.testing.assert_array_equal(np.frombuffer(data, "<f4"), [1, 2, 3, np.nan])


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"coin": 1}, "expected names of those declared"),
        ({"coins": float("inf")}, "coins: expected a finite number"),
        ({"coins": float("nan")}, "coins: expected a finite number"),
    ],
)
def test_numbers_that_no_server_takes_are_refused(metrics: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        numbers.packed(NAMES, metrics)


@pytest.mark.parametrize("metrics", [[1, 2], [[1, 2, 3]] * 2, [["a", "b"]] * 2, [[1, np.inf]] * 2])
def test_numbers_of_slots_that_no_server_takes_are_refused(metrics: Any) -> None:
    with pytest.raises(ValueError, match="metrics: expected"):
        numbers.packed_all(NAMES, metrics, 2)


@pytest.mark.parametrize("names", ["coins", ["a", "a"], [1], [str(i) for i in range(33)]])
def test_names_that_mean_nothing_are_refused(names: Any) -> None:
    with pytest.raises(ValueError, match="metrics: expected at most 32 names"):
        numbers.check_names(names)
