"""Puts the reports of all gateways and of the trainer together into rows of metrics."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from server.ipc.inflight import InFlight
from server.ipc.messages import TURN_BUCKETS_S, FinishedEpisode, GatewayReport
from server.monitor.metrics import CODE, EPISODES, PROCESS, labeled
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
    """Keeps the newest report of each process, and the counts of those that have died."""

    def __init__(self, evaluations: Evaluations | None = None) -> None:
        """`evaluations`: those of the run so far, if it is resumed."""
        self.evaluations = evaluations or Evaluations()
        self._trainer: dict[str, float] = {}
        self._in_row = True
        """The trainer's newest report is part of a row already."""
        self._gateways: dict[int, GatewayReport] = {}
        self._past: list[GatewayReport] = []
        """The last reports of gateways that have died: their counts stay."""
        self._expert_failures = 0
        """Of experts that have been replaced: a gateway counts those of the one it has."""
        self.restarts: Counter[str] = Counter()
        """By kind of process; the supervisor counts them."""
        self.lost = InFlight()
        """With gateways that died, and with a server that did not shut down cleanly before this
        one; the supervisor counts them."""
        self._handed_over: Counter[int] = Counter()
        """Steps in the ring of each gateway when its predecessor died."""
        self._stored: Counter[int] = Counter()
        """Steps that each gateway has completed, those of its predecessors included."""
        self._episodes_of_late: deque[FinishedEpisode] = deque(maxlen=EPISODES)
        self._games_of_late: deque[tuple[int, int]] = deque(maxlen=EPISODES)
        """Score and level of training episodes, where the games tell them."""
        self.episodes = 0
        """Of training, that have ended."""
        self._last: tuple[float, int, int] | None = None
        """At the last row: the time by `time.monotonic`, steps completed, frames answered."""

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

    def gateway(self, report: GatewayReport) -> list[Evaluation]:
        """Take in a report of a gateway; the evaluations that reached their maximum of episodes
        with it."""
        index = report.index
        before = self._gateways.get(index)
        if before is not None and report.expert_failures < before.expert_failures:
            self._expert_failures += before.expert_failures
        self._gateways[index] = report
        # One that has just been started does not know yet where it goes on.
        self._stored[index] = max(report.stored, self._handed_over[index])
        training = [e for e in report.episodes if e.role == "train"]
        self._episodes_of_late.extend(training)
        self.episodes += len(training)
        self._games_of_late.extend(report.game.finished)
        now = Moment(time.time(), time.monotonic(), report.run_frames, report.policy_version)
        return self.evaluations.report(index, report.evaluating, report.episodes, now)

    def gone(self, index: int, stored: int) -> None:
        """A gateway has died: what it counted stays, its connections do not. `stored`: the steps in
        its ring, from which its successor counts on."""
        report = self._gateways.pop(index, None)
        if report is not None:
            self._past.append(report)
        self.evaluations.lost(index, time.monotonic())
        self._stored[index] = self._handed_over[index] = stored

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

    def row(self) -> dict[str, float]:
        """All metrics now; rates are since the last row. The supervisor adds what it knows itself:
        `writes_failed`, `disk_free_bytes`."""
        reports, counted = list(self._gateways.values()), self._counted()
        now = time.monotonic()  # rates stay right when the time of day is set
        stored = self._stored.total()
        frames = sum((Counter(r.frames) for r in counted), Counter())
        answered = frames.total()
        since, stored_then, answered_then = self._last or (now, stored, answered)
        seconds = now - since
        self._last = (now, stored, answered)
        errors = self.errors
        failures = self._expert_failures + sum(r.expert_failures for r in counted)
        row = {
            "time": time.time(),
            "frames": 0.0,
            "frames_per_s": (stored - stored_then) / seconds if seconds else 0.0,
            "answers_per_s": (answered - answered_then) / seconds if seconds else 0.0,
            "frames_eval": float(frames["eval"]),
            "frames_eval_expert": float(frames["eval_expert"]),
            "clients": float(sum(r.clients for r in reports)),
            "slots": float(sum(r.slots for r in reports)),
            "errors": float(errors.total()),
            "turn_p50_ms": _mean(r.turn_p50_ms for r in reports),
            "turn_p99_ms": max((r.turn_p99_ms for r in reports), default=0.0),
            "expert_failures": float(failures),
            "stalls": float(sum(r.stalls for r in counted)),
            "frames_skipped": float(sum(r.game.skipped for r in counted)),
            "game_score_mean": _mean(score for score, _ in self._games_of_late),
            "game_score_peak": _most(r.game.score_peak for r in counted),
            "game_level_mean": _mean(level for _, level in self._games_of_late),
            "game_level_peak": _most(r.game.level_peak for r in counted),
            "replies_misread": float(sum(r.misreads for r in counted)),
            "policy_version": float(max((r.policy_version for r in reports), default=0)),
            "expert_ratio": _mean(r.expert_ratio for r in reports),
            "epsilon": _mean(r.epsilon for r in reports),
            "episodes": float(self.episodes),
            "episode_return_mean": _mean(e.episode_return for e in self._episodes_of_late),
            "episode_length_mean": _mean(e.length for e in self._episodes_of_late),
            "steps_lost": float(self.lost.steps),
            "frames_lost": float(self.lost.frames),
            **labeled("restarts", PROCESS, self.restarts),
            **labeled("errors", CODE, errors),
            **self.evaluations.numbers(),
            **self._trainer,
        }
        self._in_row = True
        row["steps_completed"] = float(stored)
        row["transitions_dropped"] = stored - row.get("steps_stored", 0.0)
        return row


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else math.nan


def _most(values: Iterable[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)
