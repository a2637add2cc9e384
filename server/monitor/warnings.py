"""Warnings in a run's log about settings and metrics with which training is known to fail."""

from __future__ import annotations

from collections.abc import Mapping

from config.models import AdvantageConfig
from protocol.actor import ACTORS, NAMES

FEW = 0.1
"""Below this effective sample size (a share of rows), a few rows dominate training."""

ENOUGH = 0.15
"""Above this the warning ends. Between the two nothing changes, so that it is not repeated."""


JUMP_S = 5.0
"""Smaller jumps of the clock are not logged."""


class ClockWatch:
    """Detects jumps of the time of day. Nothing is timed by it, but the log and the run's files
    contain it, and their times are then out of order."""

    def __init__(self) -> None:
        self._apart: float | None = None

    def look(self, of_day: float, steady: float) -> str | None:
        """A warning if it has jumped since the last look. `of_day`: seconds since 1970; `steady`: a
        monotonic clock, s."""
        before, self._apart = self._apart, of_day - steady
        if before is None or abs(self._apart - before) < JUMP_S:
            return None
        return (
            f"the machine's clock jumped by {self._apart - before:+.0f} s: it was set, or the "
            "machine was suspended; times in the log and in the run's files jump too, nothing else "
            "is affected"
        )


class SampleWatch:
    """Watches the effective sample size of each actor's advantage weights (`weight_ess_*`)."""

    def __init__(self) -> None:
        self._low: set[str] = set()

    def look(self, metrics: Mapping[str, float]) -> list[str]:
        """A warning for each actor whose effective sample size has just become small. An actor
        without rows stays as it was."""
        found = []
        for actor in ACTORS:
            name = NAMES[actor]
            share = metrics.get(f"weight_ess_{name}")
            if share is None:
                continue
            if share < FEW and name not in self._low:
                self._low.add(name)
                found.append(
                    f"a few rows dominate training: the effective sample size of {name} is "
                    f"{share:.1%} of its rows; lower advantage.beta, advantage.clip or "
                    "advantage.weight_max"
                )
            elif share > ENOUGH:
                self._low.discard(name)
        return found


def config_warning(advantage: AdvantageConfig) -> str | None:
    """What is known to go wrong with these settings; None if nothing."""
    if (
        "td" not in advantage.applies_to
        or advantage.mode == "off"
        or advantage.signal not in ("reward", "return")
    ):
        return None
    return (
        f"advantage.applies_to has td, and advantage.signal is {advantage.signal}: reward weights "
        "on the TD loss are known to stop learning, because the error of a value does not depend "
        "on the reward; remove td from advantage.applies_to, or set advantage.mode to off"
    )
