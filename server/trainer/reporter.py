"""What the trainer reports: the metrics and lines of an interval, and what is worth a warning."""

from __future__ import annotations

import math

from agent.evidence import Evidence
from agent.finding import Finding
from agent.health import HeadWatch, ValueWatch, value_bound
from agent.learner import Learner
from agent.replay import Replay
from agent.rollback import Rollback
from agent.update_budget import UpdateBudget
from config.models import Config
from server.ipc.messages import TrainerReport
from server.trainer.checkpointer import Checkpointer
from server.trainer.ingest import Ingest


class Reporter:
    """Looks at the trainer's parts, and puts their numbers together."""

    def __init__(
        self,
        replay: Replay,
        learner: Learner,
        evidence: Evidence,
        ingest: Ingest,
        budget: UpdateBudget,
        checkpointer: Checkpointer,
        rollback: Rollback,
        now: float,
    ) -> None:
        """`now`: when the first interval begins, s, a clock that only rises."""
        self._replay = replay
        self._learner = learner
        self._evidence = evidence
        self._ingest = ingest
        self._budget = budget
        self._checkpointer = checkpointer
        self._rollback = rollback
        self._values, self._heads = ValueWatch(), HeadWatch()
        self._reported_at, self._reported_updates = now, learner.updates
        self._lines: list[str] = []

    def report(self, config: Config, frames: int, now: float) -> TrainerReport:
        """The interval since the last report. `frames`: stored steps of the whole run."""
        learner, composition = self._learner, self._replay.actor_composition()
        seconds = max(now - self._reported_at, 1e-9)
        rate = (learner.updates - self._reported_updates) / seconds
        stored = self._ingest.stored
        metrics = (
            learner.metrics()
            | learner.agreement()
            | self._evidence.metrics(config.imitation, frames)
            | {
                "frames": float(frames),
                "steps_stored": float(stored),
                "updates": float(learner.updates),
                "updates_per_s": rate,
                "samples_per_s": rate * config.learner.batch_size,
                "updates_due": float(self._budget.behind(self._ingest.answered)),
                "buffer_total": float(composition.total),
                "buffer_dqn": float(composition.dqn),
                "buffer_expert": float(composition.expert),
                "buffer_frac_dqn": composition.frac_dqn,
                "buffer_frac_expert": composition.frac_expert,
                "buffer_fill": composition.total / self._replay.capacity_steps,
                **{f"priority_{name}": value for name, value in self._replay.priorities().items()},
                "rows_unkept": float(self._ingest.unkept),
                "paused": float(self._budget.paused),
                "checkpoints_failed": float(self._checkpointer.failed),
                "ring_fill": self._ingest.ring_fill,
                **self._ingest.rewards.means(),
            }
        )
        self._reported_at, self._reported_updates = now, learner.updates
        lines = [*learner.batch_lines(), *self._lines]
        self._lines.clear()
        found = self._look(config, metrics)
        return TrainerReport(metrics | self._health(config), lines, found)

    def add_buffer_line(self, update: int) -> None:
        """The next report has a line about what the replay holds now, after this update."""
        c = self._replay.actor_composition()
        self._lines.append(
            f"[BUFFER] Step {update}: {c.total} total, "
            f"{c.dqn} DQN ({c.frac_dqn:.1%}), {c.expert} expert ({c.frac_expert:.1%})"
        )

    def rolled_back(self, updates: int) -> None:
        """The learner has gone so many updates back (they are negative)."""
        self._reported_updates += updates
        self._values.rolled_back(self._learner.updates)
        self._heads.rolled_back()

    def _look(self, config: Config, metrics: dict[str, float]) -> list[Finding]:
        """Values that drift, heads that are dead, rows that cannot be kept."""
        learner = self._learner
        found = self._values.look(learner.updates, metrics["q_max"], self._bound(config))
        if not math.isnan(metrics["q_max"]):
            self._heads.look(learner.updates, learner.heads())
        return [*found, *self._heads.found, *self._ingest.findings]

    def _bound(self, config: Config) -> float:
        scale = float(self._learner.network.value_scale)
        return value_bound(self._ingest.rewards.largest, scale, config.learner, config.imitation)

    def _health(self, config: Config) -> dict[str, float]:
        return {
            "q_bound": self._bound(config),
            "values_drift": float(self._values.drifting),
            "heads_dead": float(len(self._heads.found)),
            "rollbacks": float(self._rollback.times),
            "learning_rate_factor": self._learner.rate_factor,
        }
