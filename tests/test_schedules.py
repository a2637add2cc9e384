from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.schedules import linear


@pytest.mark.parametrize(
    ("at", "expected"),
    [(0, 0.5), (1, 0.4955), (50, 0.275), (99, 0.0545), (100, 0.05), (101, 0.05), (10**12, 0.05)],
)
def test_a_straight_line_and_then_its_end(at: int, expected: float) -> None:
    assert linear(0.5, 0.05, 100, at) == pytest.approx(expected)


def test_it_may_rise() -> None:
    assert linear(0.0, 1.0, 4, 3) == 0.75


@pytest.mark.parametrize("at", [0, 1, 1000])
def test_no_frames_means_the_end_at_once(at: int) -> None:
    assert linear(0.5, 0.05, 0, at) == 0.05


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**9), st.integers(0, 10**10))
def test_it_stays_between_its_ends_and_hits_both(
    start: float, end: float, frames: int, at: int
) -> None:
    slack = 1e-12
    assert min(start, end) - slack <= linear(start, end, frames, at) <= max(start, end) + slack
    assert linear(start, end, frames, 0) == start
    assert linear(start, end, frames, frames) == end
