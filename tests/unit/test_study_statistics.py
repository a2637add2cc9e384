"""Interquartile means and their intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from lab.study.statistics import (
    Estimate,
    difference,
    estimate,
    improvement,
    iqm,
    pooled,
    show,
    text,
)

FIVE = [231.0, 198.0, 254.0, 120.0, 243.0]


@pytest.mark.parametrize(
    ("scores", "mean"),
    [
        ([7.0], 7),
        ([1.0, 3.0], 2),
        ([9.0, 1.0, 2.0], 4),  # a quarter of three is no whole score
        ([1.0, 100.0, 3.0, -50.0], 2),  # the middle two
        (FIVE, 224),  # 198, 231, 243
        ([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 99.0, 99.0], 2.5),  # 1 to 4
    ],
)
def test_iqm_is_mean_of_middle_half(scores: list[float], mean: float) -> None:
    assert float(iqm(np.array(scores))) == pytest.approx(mean)
    assert estimate(scores).point == pytest.approx(mean)


def test_estimate_interval_equals_that_of_all_resamples() -> None:
    every = iqm(np.array(list(itertools.product(FIVE, repeat=5))))
    low, high = np.quantile(every, [0.025, 0.975], method="inverted_cdf")
    found = estimate(FIVE)
    assert (found.low, found.high, found.n) == (pytest.approx(low), pytest.approx(high), 5)


def test_estimate_intervals_match_rliable() -> None:
    """Numbers of rliable 1.2.0: `get_interval_estimates` with `aggregate_iqm`, 50,000 resamples."""
    assert estimate(FIVE) == Estimate(224, 146, pytest.approx(250.333, abs=1e-3), 5)
    games = [[0.2, 0.4, 0.9, 0.5, 0.3], [1.1, 0.9, 1.3, 1.2, 0.7], [0.7, 0.1, 0.6, 0.65, 0.8]]
    found = pooled(games)
    assert found.point == pytest.approx(0.68333, abs=1e-4)
    assert found.low == pytest.approx(0.54444, abs=0.006)
    assert found.high == pytest.approx(0.81667, abs=0.006)


def test_pooled_resamples_within_each_game() -> None:
    assert pooled([[0.0] * 4, [1.0] * 4]) == Estimate(0.5, 0.5, 0.5, 8)
    mixed = estimate([0.0] * 4 + [1.0] * 4)
    assert mixed.low < 0.3 < 0.7 < mixed.high


def test_estimate_is_deterministic() -> None:
    assert estimate(FIVE) == estimate(FIVE)


def test_estimate_with_infinite_score_has_infinite_bound() -> None:
    one = estimate([8000, 8000, 10_000, math.inf, 6000])
    assert one.point == pytest.approx((8000 + 8000 + 10_000) / 3)
    assert one.high == math.inf
    assert one.low < 8000
    assert estimate([8000, math.inf, math.inf, math.inf, 6000]).point == math.inf


def test_difference_interval_excludes_zero_only_if_runs_differ() -> None:
    apart = difference([10.0, 11.0, 12.0], [1.0, 2.0, 3.0])
    assert apart.point == 9
    assert 7 <= apart.low < 9 < apart.high <= 11
    near = difference([1.0, 5.0, 3.0], [2.0, 4.0, 2.5])
    assert near.low < 0 < near.high
    back = difference([2.0, 4.0, 2.5], [1.0, 5.0, 3.0])
    assert back.point == pytest.approx(-near.point)


def test_improvement_is_share_of_pairs_averaged_over_games() -> None:
    """Half the pairs of the first game, with a tie by half; all of the second."""
    found = improvement([([1.0, 3.0], [2.0, 2.0]), ([5.0, 6.0], [5.0, 1.0])])
    assert found.point == pytest.approx((2 / 4 + 3.5 / 4) / 2)
    assert found.n == 8
    assert found.low < found.point < found.high
    assert improvement([([2.0] * 3, [1.0] * 3)]) == Estimate(1, 1, 1, 6)


@pytest.mark.parametrize("wrong", [[], [1.0, math.nan]])
def test_estimate_of_nothing_or_nan_raises(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="expected at least one number in each stratum"):
        estimate(wrong)


def test_show_and_text_round_numbers() -> None:
    assert show(Estimate(8666.7, 6000, math.inf, 5)) == "8,667 [6,000, never]"
    assert show(Estimate(0.126, 0.1, 0.15, 5), 2) == "0.13 [0.10, 0.15]"
    assert show(Estimate(1.66, -0.04, 12.5, 5)) == "1.7 [-0.0, 12]"
    assert (text(2.0), text(9.96), text(10.4)) == ("2", "10.0", "10")
    assert text(math.nan) == "–"
