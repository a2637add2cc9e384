"""The results of a comparison: its complete runs, and what is asked of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.sync_trainer import EvaluationPoint


@dataclass(frozen=True)
class Run:
    """One complete run."""

    seed: int
    evaluations: tuple[EvaluationPoint, ...]
    made: Mapping[str, Any] = field(default_factory=dict)
    """Where it was made: revision, machine, versions."""

    @property
    def final(self) -> float:
        """Mean return of the last evaluation."""
        return self.evaluations[-1].mean

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.evaluations[-1].seconds

    def returns(self, episodes: int) -> list[float]:
        """The mean return of each evaluation, over its first `episodes` episodes."""
        return [statistics.fmean(e.returns[:episodes]) for e in self.evaluations]

    def passed(self, level: float, episodes: int) -> EvaluationPoint | None:
        """The first evaluation whose return exceeds a level."""
        for evaluation, mean in zip(self.evaluations, self.returns(episodes), strict=True):
            if mean > level:
                return evaluation
        return None

    def metric(self, name: str) -> list[float]:
        """A metric of training in the interval before each evaluation; NaN where there is none."""
        return [e.metrics.get(name, math.nan) for e in self.evaluations]


@dataclass(frozen=True)
class Results:
    """What is known of a comparison."""

    episodes: int
    """Episodes of an evaluation, the last one's first ones among them."""
    seeds: int
    """Runs of each variant that a verdict needs."""
    runs: Mapping[tuple[str, str], list[Run]]
    """Complete runs by scene and variant, in the order of their seeds."""
    experts: Mapping[str, list[float]]
    """Returns of the expert alone, by scene."""

    def of(self, scene: str, variant: str) -> list[Run]:
        """The complete runs of a variant in a scene."""
        return self.runs.get((scene, variant), [])

    def expert(self, scene: str) -> float:
        """The expert's mean return; NaN if it was not measured."""
        returns = self.experts.get(scene)
        return statistics.fmean(returns) if returns else math.nan
