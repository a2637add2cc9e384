"""Few runs, reported honestly: the interquartile mean and its bootstrap interval.

After Agarwal et al. 2021, *Deep Reinforcement Learning at the Edge of the Statistical Precipice*,
and their library rliable, whose figures the tests compare with. (rliable 1.2 itself needs an `arch`
that cannot be imported beside pandas 3.)

A score may be infinite: a run that never got there took longer than any other. The mean of the
middle half is finite as long as no more than a quarter of the runs are so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 20_000


@dataclass(frozen=True)
class Estimate:
    """An interquartile mean and where it lies with a confidence of 95 %."""

    point: float
    low: float
    high: float
    n: int
    """Scores that it is made from."""


def iqm(scores: npt.NDArray[Any]) -> Floats:
    """The mean of the scores without their lowest and highest quarter (each rounded down to whole
    scores), over the last axis."""
    ordered = np.sort(scores, axis=-1)
    n = ordered.shape[-1]
    cut = n // 4
    mean: Floats = ordered[..., cut : n - cut].mean(axis=-1)
    return mean


def estimate(scores: Sequence[float]) -> Estimate:
    """The interquartile mean of one score for each run."""
    return pooled([scores])


def pooled(strata: Sequence[Sequence[float]]) -> Estimate:
    """The interquartile mean of the scores of several games together.

    Resampled by stratum: each resample has as many runs of each game as there are.
    """
    return _estimate(_flat(strata), _resampled(strata, seed=0))


def difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """How far the interquartile mean of `a` is above that of `b`; runs are not paired."""
    point = iqm(np.array(a, float)) - iqm(np.array(b, float))
    resampled = _resampled([a], seed=0) - _resampled([b], seed=1)
    return _bounds(float(point), resampled, len(a) + len(b))


def improvement(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Estimate:
    """How likely a run of the first group scores above one of the second, ties by half, averaged
    over games: a pair of groups for each (Agarwal et al. 2021, section 4.3). It needs no common
    scale. Each resample has as many runs of each group of each game as there are."""
    rng = np.random.default_rng(0)
    points, resampled = [], []
    for a, b in pairs:
        above = np.sign(np.subtract.outer(np.array(a, float), np.array(b, float))) / 2 + 0.5
        points.append(above.mean())
        rows = rng.integers(len(a), size=(RESAMPLES, len(a)))
        columns = rng.integers(len(b), size=(RESAMPLES, len(b)))
        resampled.append(above[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2)))
    n = sum(len(a) + len(b) for a, b in pairs)
    return _bounds(float(np.mean(points)), np.mean(resampled, axis=0), n)


def _flat(strata: Sequence[Sequence[float]]) -> Floats:
    return np.concatenate([np.array(scores, float) for scores in strata])


def _estimate(scores: Floats, resampled: Floats) -> Estimate:
    return _bounds(float(iqm(scores)), resampled, len(scores))


def _bounds(point: float, resampled: Floats, n: int) -> Estimate:
    tail = (1 - LEVEL) / 2
    # A value that was drawn, not one between two: between a number and infinity there is none.
    low, high = np.quantile(resampled, [tail, 1 - tail], method="inverted_cdf").tolist()
    return Estimate(point, low, high, n)


def _resampled(strata: Sequence[Sequence[float]], seed: int) -> Floats:
    """Interquartile means of resamples, [RESAMPLES]. The same ones at every call."""
    rng = np.random.default_rng(seed)
    drawn = []
    for scores in strata:
        values = np.array(scores, float)
        if not len(values) or np.isnan(values).any():
            raise ValueError(f"expected at least one number in each stratum, got {scores}")
        drawn.append(values[rng.integers(len(values), size=(RESAMPLES, len(values)))])
    return iqm(np.concatenate(drawn, axis=1))


def show(found: Estimate, digits: int | None = None) -> str:
    """`224 [146, 250]`."""
    return f"{text(found.point, digits)} [{text(found.low, digits)}, {text(found.high, digits)}]"


def text(value: float, digits: int | None = None) -> str:
    """A number for people; `never` for infinity, a dash for NaN. Whole, but for those below 10,
    which would be told too coarsely."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "never"
    if digits is None:
        digits = 1 if abs(value) < 10 and value != round(value) else 0
    return f"{value:,.{digits}f}"
