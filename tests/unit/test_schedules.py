from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.schedules import learning_rate, linear, scheduled
from config.models import Schedule


@pytest.mark.parametrize(
    ("at", "expected"),
    [(0, 0.5), (1, 0.4955), (50, 0.275), (99, 0.0545), (100, 0.05), (101, 0.05), (10**12, 0.05)],
)
def test_linear_interpolates_then_stays_at_end(at: int, expected: float) -> None:
    assert linear(0.5, 0.05, 100, at) == pytest.approx(expected)


def test_linear_may_rise() -> None:
    assert linear(0.0, 1.0, 4, 3) == 0.75


@pytest.mark.parametrize("at", [0, 1, 1000])
def test_linear_over_zero_frames_is_end_value(at: int) -> None:
    assert linear(0.5, 0.05, 0, at) == 0.05


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**9), st.integers(0, 10**10))
def test_linear_stays_within_and_reaches_both_ends(
    start: float, end: float, frames: int, at: int
) -> None:
    slack = 1e-12
    assert min(start, end) - slack <= linear(start, end, frames, at) <= max(start, end) + slack
    assert linear(start, end, frames, 0) == start
    assert linear(start, end, frames, frames) == end


@pytest.mark.parametrize(
    ("at", "expected"), [(0, 1.0), (500, 1.0), (501, 0.9), (505, 0.5), (510, 0.0), (10**9, 0.0)]
)
def test_scheduled_with_hold_stays_at_start_first(at: int, expected: float) -> None:
    held = Schedule(start=1.0, end=0.0, frames=10, hold=500)
    assert scheduled(held, at) == pytest.approx(expected)
    assert scheduled(Schedule(start=1.0, end=0.0, frames=10), 1) == 0.9


@pytest.mark.parametrize(
    ("update", "expected"),
    [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (9, 0.55), (14, 0.1), (10**9, 0.1)],
)
def test_learning_rate_warms_up_then_decays_by_half_cosine(update: int, expected: float) -> None:
    """Four updates up to 1, then ten down to 0.1: halfway down in the middle."""
    assert learning_rate(1.0, 0.1, 4, 10, update) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("update", "expected"),
    [(3, 1.0), (9, 0.55), (14, 1.0), (19, 0.55), (10**9 + 4, 1.0)],
)
def test_learning_rate_with_restarts_repeats_cosine(update: int, expected: float) -> None:
    assert learning_rate(1.0, 0.1, 4, 10, update, restarts=True) == pytest.approx(expected)


def test_learning_rate_without_cosine_is_constant() -> None:
    assert [learning_rate(0.5, 0.1, 0, None, update) for update in (0, 10**9)] == [0.5, 0.5]
