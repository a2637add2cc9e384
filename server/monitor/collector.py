"""Puts the reports of all gateways and of the trainer together into rows of metrics."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from server.ipc.inflight import InFlight, StepCounts
from server.ipc.messages import FinishedEpisode, GatewayReport
from server.ipc.turn_buckets import TURN_BUCKETS_S
from server.monitor.game_metrics import GameMetrics
from server.monitor.metric import COUNTER, labeled
from server.monitor.metrics import CODE, EPISODES, PROCESS, SERIES
from server.monitor.rate import Rate
from server.monitor.recent_ratio import RecentRatio
from server.run.evaluation import Evaluation
from server.run.evaluations import Evaluations, Moment


@dataclass(frozen=True, slots=True)
class TurnHistogram:
    """Turns of all gateways since the start."""

    buckets: tuple[int, ...] = (0,) * (len(TURN_BUCKETS_S) + 1)
    """Turns that took at most as long as each of TURN_BUCKETS_S, and last the number of all."""
    seconds: float = 0.0
    """What all of them took together."""


class MetricsCollector:
    """Keeps the newest report of each process, and the counts of those that have died.

    A number that is made of several counters takes all of them from one report, or from one look at
    shared memory: two reports are of two moments. A counter never falls, whichever process dies.
    """

    def __init__(self, evaluations: Evaluations | None = None) -> None:
        """`evaluations`: those of the run so far, if it is resumed."""
        self.evaluations = evaluations or Evaluations()
        self._trainer: dict[str, float] = {}
        self._past_trainers: Counter[str] = Counter()
        """What the trainers that have died had counted."""
        self._in_row = True
        """The trainer's newest report is part of a row already."""
        self._gateways: dict[int, GatewayReport] = {}
        self._past: list[GatewayReport] = []
        """The last reports of gateways that have died: their counts stay."""
        self._answers: dict[int, Rate] = {}
        """Of frames, by gateway."""
        self.restarts: Counter[str] = Counter()
        """By kind of process; the supervisor counts them."""
        self.lost = InFlight()
        """With gateways that died, and with a server that did not shut down cleanly before this
        one; the supervisor counts them."""
        self._episodes_of_late: deque[FinishedEpisode] = deque(maxlen=EPISODES)
        self._games_of_late: deque[tuple[int, int]] = deque(maxlen=EPISODES)
        """Score and level of training episodes, where the games tell them."""
        self._of_game = GameMetrics()
        self.episodes = 0
        """Of training, that have ended."""
        self._steps = Rate()
        """Of steps completed."""
        self._taken_over = RecentRatio()
        self._took_frames = RecentRatio(most=math.inf)

    def trainer(self, metrics: dict[str, float]) -> None:
        """Take in a report of the trainer. Its intervals are not those of the rows, so a number
        that no row has had yet stays until a newer one replaces it; NaN does not."""
        waiting = {} if self._in_row else self._trainer
        self._trainer = metrics | {
            name: value
            for name, value in waiting.items()
            if math.isnan(metrics.get(name, math.nan)) and not math.isnan(value)
        }
        self._in_row = False

    @property
    def of_trainer(self) -> set[str]:
        """What the trainer alone tells of now: not what it counts, and not what is overwritten with
        the counters in shared memory."""
        return self._trainer.keys() - _COUNTED_BY_TRAINER - {"frames", "steps_stored"}

    def trainer_gone(self) -> None:
        """The trainer has died: what it counted stays, and its successor counts from 0."""
        for name in _COUNTED_BY_TRAINER & self._trainer.keys():
            self._past_trainers[name] += self._trainer.pop(name)  # type: ignore[assignment]

    def gateway(self, report: GatewayReport) -> list[Evaluation]:
        """Take in a report of a gateway; the evaluations that reached their maximum of episodes
        with it."""
        self._gateways[report.index] = report
        answers = self._answers.setdefault(report.index, Rate())
        answers.take(sum(report.frames.values()), report.time)
        training = [e for e in report.episodes if e.role == "train"]
        self._episodes_of_late.extend(training)
        self.episodes += len(training)
        self._games_of_late.extend(report.game.finished)
        self._of_game.take(report.game)
        now = Moment(time.time(), time.monotonic(), report.run_frames, report.policy_version)
        return self.evaluations.report(report.index, report.evaluating, report.episodes, now)

    def gateway_gone(self, index: int) -> None:
        """A gateway has died: what it counted stays, its connections do not."""
        report = self._gateways.pop(index, None)
        if report is not None:
            self._past.append(report)
        self._answers.pop(index, None)
        self.evaluations.lost(index, time.monotonic())

    @property
    def errors(self) -> Counter[str]:
        """Connections that ended with an error, by code."""
        return sum((Counter(r.errors) for r in self._counted()), Counter())

    @property
    def turns(self) -> TurnHistogram:
        """How long turns took."""
        reports = self._counted()
        if not reports:
            return TurnHistogram()
        buckets = zip(*(r.turn_buckets for r in reports), strict=True)
        return TurnHistogram(tuple(map(sum, buckets)), sum(r.turn_seconds for r in reports))

    def _counted(self) -> list[GatewayReport]:
        return [*self._past, *self._gateways.values()]

    def row(
        self, steps: StepCounts | None = None, base_frames: int | None = None
    ) -> dict[str, float]:
        """All metrics now. `steps`: as of now; None where there are no games, and the trainer alone
        counts. `base_frames`: stored frames before this start; None while that is not known. The
        supervisor adds what it knows itself: `writes_failed`, `disk_free_bytes`, `warnings`."""
        reports, counted = list(self._gateways.values()), self._counted()
        now = time.monotonic()  # rates stay right when the time of day is set
        frames = sum((Counter(r.frames) for r in counted), Counter())
        errors = self.errors
        row = {
            "time": time.time(),
            "frames": 0.0,
            "answers_per_s": sum(rate.per_s(now) for rate in self._answers.values()),
            "frames_eval": float(frames["eval"]),
            "frames_eval_expert": float(frames["eval_expert"]),
            "frames_play": float(frames["play"]),
            "clients": float(sum(r.clients for r in reports)),
            "slots": float(sum(r.slots for r in reports)),
            "slots_training": float(sum(r.training for r in reports)),
            "errors": float(errors.total()),
            "turn_p50_ms": _mean(r.turn_p50_ms for r in reports),
            "turn_p99_ms": max(_numbers(r.turn_p99_ms for r in reports), default=math.nan),
            "expert_failures": float(sum(r.expert_failures for r in counted)),
            **self._interventions(counted, now),
            "stalls": float(sum(r.stalls for r in counted)),
            "frames_skipped": float(sum(r.game.skipped for r in counted)),
            "game_score_mean": _mean(score for score, _ in self._games_of_late),
            "game_score_peak": _most(r.game.score_peak for r in counted),
            "game_level_mean": _mean(level for _, level in self._games_of_late),
            "game_level_peak": _most(r.game.level_peak for r in counted),
            "replies_misread": float(sum(r.misreads for r in counted)),
            "games_held": max((r.held for r in reports), default=0.0),
            "policy_version": float(max((r.policy_version for r in reports), default=0)),
            "expert_ratio": _mean(r.expert_ratio for r in reports),
            "epsilon": _mean(r.epsilon for r in reports),
            "episodes": float(self.episodes),
            "episode_return_mean": _mean(e.episode_return for e in self._episodes_of_late),
            "episode_length_mean": _mean(e.length for e in self._episodes_of_late),
            "steps_lost": float(self.lost.steps),
            "frames_lost": float(self.lost.frames),
            "transitions_dropped": float(self.lost.steps),
            **labeled("restarts", PROCESS, self.restarts),
            **labeled("errors", CODE, errors),
            **self._of_game.row(),
            **self.evaluations.numbers(),
            **self._trainer,
            **self._counted_by_trainers(),
        }
        self._in_row = True
        if steps is None:
            stored = int(row.get("steps_stored", 0))
            steps = StepCounts(stored, stored)
        else:
            # As of now, and not of the trainer's last report.
            row["frames"] = math.nan if base_frames is None else float(base_frames + steps.stored)
        # Of those completed: the trainer takes them in by fits and starts. What is lost was, too.
        self._steps.take(steps.completed + self.lost.steps, now)
        row |= {
            "frames_per_s": self._steps.per_s(now),
            "steps_completed": float(steps.completed),
            "steps_stored": float(steps.stored),
            "steps_in_flight": float(steps.in_flight),
        }
        return row

    def _interventions(self, counted: list[GatewayReport], now: float) -> dict[str, float]:
        """Interventions since the start, what share of the frames in training they were of late,
        and how long those were that began of late; NaN until there was one."""
        begun = sum(r.takeovers[0] for r in counted)
        frames = sum(r.takeovers[1] for r in counted)
        played = sum(r.frames.get("train", 0) for r in counted)
        share = self._taken_over.of(frames, played, now)
        return {
            "takeovers": float(begun),
            "takeover_frames": float(frames),
            "takeover_share": share if begun else math.nan,
            "takeover_length_mean": self._took_frames.of(frames, begun, now),
        }

    def _counted_by_trainers(self) -> dict[str, float]:
        """The counters of the trainer and of those before it; those that any has told of."""
        names = _COUNTED_BY_TRAINER & (self._trainer.keys() | self._past_trainers.keys())
        return {name: self._trainer.get(name, 0.0) + self._past_trainers[name] for name in names}


_COUNTED_BY_TRAINER = {name for name, series in SERIES.items() if series.metric.kind == COUNTER} - {
    "steps_stored"
}
"""Of the counters in its report. The steps stored are counted in shared memory, across trainers."""


def _numbers(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _mean(values: Iterable[float]) -> float:
    numbers = _numbers(values)
    return sum(numbers) / len(numbers) if numbers else math.nan


def _most(values: Iterable[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)
