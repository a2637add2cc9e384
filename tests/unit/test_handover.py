from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.handover import expert_ratio, handed_over

NONE = math.nan


@pytest.mark.parametrize(
    ("student", "teacher", "floor", "p"),
    [
        # Nothing is known yet, of one or the other.
        (NONE, NONE, NONE, 0.0),
        (NONE, 229.0, NONE, 0.0),
        (-180.0, NONE, -180.0, 0.0),
        # The way from -200 to 200, by quarters.
        (-200.0, 200.0, -200.0, 0.0),
        (-100.0, 200.0, -200.0, 0.25),
        (0.0, 200.0, -200.0, 0.5),
        (100.0, 200.0, -200.0, 0.75),
        (200.0, 200.0, -200.0, 1.0),
        (260.0, 200.0, -200.0, 1.0),
        # Worse than at first.
        (-300.0, 200.0, -200.0, 0.0),
        # A teacher that has nothing to teach, whatever became of the student.
        (-100.0, -250.0, -200.0, 1.0),
        (-300.0, -250.0, -200.0, 1.0),
        (-300.0, -200.0, -200.0, 1.0),
    ],
)
def test_handed_over_is_student_progress_from_floor_to_teacher(
    student: float, teacher: float, floor: float, p: float
) -> None:
    assert handed_over(student, teacher, floor) == pytest.approx(p)


@pytest.mark.parametrize(
    ("student", "ratio"),
    [(NONE, 0.5), (-200.0, 0.5), (-100.0, 0.4), (0.0, 0.3), (100.0, 0.2), (200.0, 0.1), (9e9, 0.1)],
)
def test_expert_ratio_interpolates_from_start_to_end(student: float, ratio: float) -> None:
    floor = NONE if math.isnan(student) else -200.0
    assert expert_ratio(0.5, 0.1, student, 200.0, floor) == pytest.approx(ratio)


def test_expert_ratio_rises_again_when_student_return_falls() -> None:
    ratios = [expert_ratio(1.0, 0.0, mean, 100.0, 0.0) for mean in (0.0, 50.0, 100.0, 50.0, 0.0)]
    assert ratios == [1.0, 0.5, 0.0, 0.5, 1.0]


def test_expert_ratio_at_teacher_level_equals_end_exactly() -> None:
    assert expert_ratio(0.9, 0.3, 200.0, 200.0, -200.0) == 0.3
    assert expert_ratio(0.7, 0.05, 1e9, 200.0, -200.0) == 0.05


@given(*[st.floats(0, 1)] * 2, *[st.floats(-1e6, 1e6)] * 3)
def test_expert_ratio_stays_between_start_and_end(
    start: float, end: float, student: float, teacher: float, floor: float
) -> None:
    ratio = expert_ratio(start, end, student, teacher, floor)
    assert min(start, end) - 1e-12 <= ratio <= max(start, end) + 1e-12
