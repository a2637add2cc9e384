"""What a run's log warns of: settings and numbers with which learning is known to go wrong."""

from __future__ import annotations

from collections.abc import Mapping

from config.models import AdvantageConfig
from protocol.actor import ACTORS, NAMES

FEW = 0.1
"""Below this effective sample, a few rows decide what is learnt."""

ENOUGH = 0.15
"""Above this the warning is over; between the two, nothing changes, so that it is said once."""


JUMP_S = 5.0
"""A clock that is set by less is not worth a line."""


class ClockWatch:
    """Notices that the time of day has jumped. Nothing is timed by it; but it stands in the log and
    in the run's files, whose order then no longer is that of their times."""

    def __init__(self) -> None:
        self._apart: float | None = None

    def look(self, of_day: float, steady: float) -> str | None:
        """A warning where it has jumped since the last look. `of_day`: seconds since 1970;
        `steady`: by a clock that nobody sets."""
        before, self._apart = self._apart, of_day - steady
        if before is None or abs(self._apart - before) < JUMP_S:
            return None
        return (
            f"the machine's clock jumped by {self._apart - before:+.0f} s: it was set, or the "
            "machine slept; times in the log and in the run's files jump with it, and nothing else "
            "does"
        )


class SampleWatch:
    """Watches the effective sample of each actor's advantage weights (`weight_ess_*`)."""

    def __init__(self) -> None:
        self._low: set[str] = set()

    def look(self, metrics: Mapping[str, float]) -> list[str]:
        """A warning for each actor whose effective sample has just become small. An actor without
        a number (no rows) stays as it was."""
        found = []
        for actor in ACTORS:
            name = NAMES[actor]
            share = metrics.get(f"weight_ess_{name}")
            if share is None:
                continue
            if share < FEW and name not in self._low:
                self._low.add(name)
                found.append(
                    f"a few rows dominate: the effective sample of {name} is {share:.1%} of its "
                    "rows; lower advantage.beta, advantage.clip or advantage.weight_max"
                )
            elif share > ENOUGH:
                self._low.discard(name)
        return found


def config_warning(advantage: AdvantageConfig) -> str | None:
    """What is known to go wrong with these settings, if anything."""
    if (
        "td" not in advantage.applies_to
        or advantage.mode == "off"
        or advantage.signal not in ("reward", "return")
    ):
        return None
    return (
        f"advantage.applies_to has td, and advantage.signal is {advantage.signal}: reward weights "
        "on the TD loss are known to stop learning, for a value is right or wrong whatever the "
        "reward was; leave td out of advantage.applies_to, or set advantage.mode to off"
    )
