"""What the supervisor finds in settings, clocks and metrics that is worth a warning."""

from __future__ import annotations

import math
from collections.abc import Mapping

from agent.finding import Finding
from config.models import Config, TrainerConfig
from protocol.actor import ACTORS, NAMES
from protocol.spaces import GameSpec

FEW = 0.03
"""Below this effective sample size (a share of rows), a few rows dominate training: less than the
default weights can have, whatever they weigh (0.037, where one row in ninety is far better than all
others). Those of a normal distribution have 0.16, of an exponential one 0.09, and learn well."""

ENOUGH = 0.035
"""Above this the warning ends. Between the two nothing changes, so that it is not repeated."""

BEHIND = "training_behind"

BEHIND_S = 10.0
"""Training must be behind for so long: a checkpoint or a burst of frames is soon made up for."""

USUAL_LAG = 50
"""Updates by which training may be behind where `trainer.max_lag_updates` sets no limit."""

JUMP_S = 5.0
"""Smaller jumps of the clock are not logged."""


class ClockWatch:
    """Detects jumps of the time of day. Nothing is timed by it, but the log and the run's files
    contain it, and their times are then out of order."""

    def __init__(self) -> None:
        self._apart: float | None = None

    def look(self, of_day: float, steady: float) -> list[Finding]:
        """Whether it has jumped since the last look. `of_day`: seconds since 1970; `steady`: a
        monotonic clock, s."""
        before, self._apart = self._apart, of_day - steady
        if before is None or abs(self._apart - before) < JUMP_S:
            return []
        return [
            Finding(
                "clock_forward" if self._apart > before else "clock_back",
                f"the machine's clock jumped by {self._apart - before:+.0f} s: it was set, or the "
                "machine was suspended",
                "nothing to do: times in the log and in the run's files jump too, nothing else is "
                "affected",
            )
        ]


class PaceWatch:
    """Watches whether training keeps the pace of games that do not wait for it."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._found = False
        """It has been found, and training is behind since then."""

    def look(self, row: Mapping[str, float], trainer: TrainerConfig, now: float) -> list[Finding]:
        """Whether training has been far behind for a while, and fell further behind when that was
        found: what is made up for is worth no warning. `row`: of metrics; `now`: of a clock that
        only rises, s."""
        due = row.get("updates_due", 0.0)
        limit = trainer.max_lag_updates
        # What games in lock step may bring about: the limit, and a frame of each.
        most = (limit or USUAL_LAG) + trainer.replay_ratio * row.get("slots", 0.0)
        if not due > 2 * most:  # NaN is not
            self._since, self._found = None, False
            return []
        since = self._since = now if self._since is None else self._since
        lasts = now - since >= BEHIND_S
        self._found = self._found or (lasts and not _catches_up(row, trainer))
        return [_behind(row, trainer)] if self._found else []


def _catches_up(row: Mapping[str, float], trainer: TrainerConfig) -> bool:
    """More updates are made than become due."""
    due = row.get("frames_per_s", 0.0) * trainer.replay_ratio
    return row.get("updates_per_s", 0.0) >= due


def _behind(row: Mapping[str, float], trainer: TrainerConfig) -> Finding:
    due, made = row["updates_due"], row.get("updates_per_s", 0.0)
    frames = row.get("frames_per_s", 0.0)
    ratio = trainer.replay_ratio
    text = (
        f"training is {due:,.0f} updates behind ({due / ratio:,.0f} frames): {frames:,.0f} "
        f"frames/s make {frames * ratio:,.1f} updates/s due, and {made:,.1f} updates/s are made"
    )
    if _catches_up(row, trainer):
        return Finding(BEHIND, text, "wait: training is catching up")
    kept = f" to {made / frames:.2g}" if made else ""
    wait = "" if trainer.max_lag_updates else ", or set trainer.max_lag_updates, so that games wait"
    return Finding(
        BEHIND,
        text,
        f"lower trainer.replay_ratio{kept}, make learner.hidden or learner.batch_size smaller, "
        f"give the trainer more trainer.threads or a GPU{wait}; or leave it, and each frame is "
        "learnt from less often than configured",
    )


class SampleWatch:
    """Watches the effective sample size of each actor's advantage weights (`weight_ess_*`)."""

    def __init__(self) -> None:
        self._low: dict[str, float] = {}

    def look(self, metrics: Mapping[str, float]) -> list[Finding]:
        """One for each actor whose effective sample size is small. An actor without rows stays as
        it was."""
        for actor in ACTORS:
            name = NAMES[actor]
            share = metrics.get(f"weight_ess_{name}", math.nan)
            if share < FEW or (share <= ENOUGH and name in self._low):
                self._low[name] = share
            elif not math.isnan(share):
                self._low.pop(name, None)
        return [
            Finding(
                f"few_rows_{name}",
                f"a few rows dominate training: the effective sample size of {name} is {share:.1%} "
                "of its rows",
                "lower advantage.beta, advantage.clip or advantage.weight_max",
            )
            for name, share in self._low.items()
        ]


CONFIG_IDS = frozenset({"weights_on_td", "reward_weights"})
"""Of all that `config_findings` may find."""


def config_findings(config: Config, spec: GameSpec | None) -> list[Finding]:
    """What is known to go wrong with these settings, and what the game does not fit. `spec`: None
    while the run has no game."""
    found, advantage = [], config.advantage
    if (
        "td" in advantage.applies_to
        and advantage.mode != "off"
        and advantage.signal in ("reward", "return")
    ):
        found.append(
            Finding(
                "weights_on_td",
                f"advantage.applies_to has td, and advantage.signal is {advantage.signal}: reward "
                "weights on the TD loss are known to stop learning, because the error of a value "
                "does not depend on the reward",
                "remove td from advantage.applies_to, or set advantage.mode to off",
            )
        )
    unknown = config.reward.weights.keys() - set(spec.rewards) if spec else set()
    if spec and unknown:
        found.append(
            Finding(
                "reward_weights",
                f"reward.weights names {', '.join(sorted(unknown))}, which the game does not send",
                f"name what it sends: {', '.join(spec.rewards)}",
            )
        )
    return found
