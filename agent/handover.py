"""How far the expert has handed over to the student, computed from evaluations of both. Pure."""

from __future__ import annotations

import math


def handed_over(student: float, teacher: float, floor: float) -> float:
    """How much of the way from its first evaluation to the teacher the student has gone: 0 to 1.

        p = clip((student - floor) / (teacher - floor), 0, 1)

    `student`: mean return of the student's newest evaluation, `teacher`: that of the expert,
    `floor`: that of the student's first evaluation. NaN where there is none yet: 0. A student at
    or above the teacher: 1. So is one whose teacher is no better than where the student began: it
    has nothing to teach. A student that forgets goes back. The rule is this project's own.
    """
    if math.isnan(student) or math.isnan(teacher) or math.isnan(floor):
        return 0.0
    if student >= teacher or teacher <= floor:
        return 1.0
    return max(0.0, (student - floor) / (teacher - floor))


def expert_ratio(start: float, end: float, student: float, teacher: float, floor: float) -> float:
    """The share that the expert plays: from `start` to `end` in a straight line as it hands over
    (`handed_over`)."""
    p = handed_over(student, teacher, floor)
    # At 1 exactly `end`, whatever the rounding of the sum.
    return end if p == 1.0 else start + (end - start) * p
