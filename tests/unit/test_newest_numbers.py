"""For each metric the newest value that was a number."""

from __future__ import annotations

import math
from typing import Any

from server.monitor.newest_numbers import NewestNumbers

TRAINERS = {"loss", "lag"}


def _add(
    numbers: NewestNumbers, now: float, late: frozenset[str] = frozenset(), **row: Any
) -> None:
    numbers.add(row, now, of_trainer=TRAINERS, late=late, forget_after_s=3.0)


def test_number_stands_until_the_next_one() -> None:
    numbers = NewestNumbers()
    _add(numbers, 0.0, fps=60.0)
    _add(numbers, 1.0, fps=math.nan)
    assert numbers.last == {"fps": 60.0}
    _add(numbers, 2.0, fps=30.0)
    assert numbers.last == {"fps": 30.0}


def test_number_of_a_gateway_is_forgotten_and_the_trainers_stays() -> None:
    numbers = NewestNumbers()
    _add(numbers, 0.0, fps=60.0, lag=2.0)
    _add(numbers, 4.0, fps=math.nan, lag=math.nan)
    assert numbers.last == {"lag": 2.0}


def test_loss_of_nan_is_shown_where_updates_were_made() -> None:
    numbers = NewestNumbers()
    _add(numbers, 0.0, loss=1.0, updates_per_s=5.0)
    _add(numbers, 1.0, loss=math.nan, updates_per_s=5.0)
    assert math.isnan(numbers.last["loss"])


def test_late_trainers_numbers_are_not_shown_and_come_back_with_its_report() -> None:
    numbers = NewestNumbers()
    _add(numbers, 0.0, loss=1.0, fps=60.0)
    _add(numbers, 9.0, late=frozenset({"loss", "fps"}), loss=math.nan, fps=math.nan)
    assert numbers.last == {}
    _add(numbers, 10.0, loss=math.nan, fps=math.nan)
    assert numbers.last == {"loss": 1.0}, "the gateway's number was of then"
    _add(numbers, 11.0, loss=0.5)
    _add(numbers, 12.0, loss=math.nan)
    assert numbers.last == {"loss": 0.5}
