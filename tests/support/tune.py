"""Searches of settings that nobody has to wait for: trials whose evaluations are made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from config.fields import flat
from config.load import config_from
from lab.study.workers import Done, JobFailed
from lab.sync_trainer import EvaluationPoint, SyncTrainerOptions
from lab.tune import search
from lab.tune.outcome import TrialResult
from lab.tune.plan import Trial, TunePlan
from lab.tune.search import Search
from lab.tune.space import parse_space

EVERY = 100

Curve = Callable[[Trial], Sequence[float]]
"""The mean return of each evaluation of a trial. An exception: the trial fails so."""


class MadeUpWorkers:
    """In place of `lab.study.workers.Workers`: a trial that is started is played in no time."""

    def __init__(self, curve: Curve, most: int) -> None:
        self._curve, self._most = curve, most
        self._coming: dict[int, tuple[Trial, list[EvaluationPoint | Done | JobFailed]]] = {}
        self.stopped: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def busy(self) -> int:
        return len(self._coming)

    @property
    def free(self) -> int:
        return self._most - self.busy

    def start(self, trial: Trial) -> None:
        news: list[EvaluationPoint | Done | JobFailed] = []
        try:
            for n, mean in enumerate(self._curve(trial)):
                news.append(EvaluationPoint((n + 1) * EVERY, (mean - 1, mean + 1), 1.0))
            news.append(Done())
        except ValueError as error:
            news.append(JobFailed(str(error)))
        self._coming[trial.number] = trial, news

    def wait(self) -> list[tuple[Trial, EvaluationPoint | Done | JobFailed]]:
        found = []
        for trial, news in list(self._coming.values()):
            found.append((trial, news.pop(0)))
            if not news:
                del self._coming[trial.number]
        return found

    def stop(self, trial: Trial) -> None:
        self.stopped.append(trial.number)
        del self._coming[trial.number]


def plan(*words: str, frames: int = 4 * EVERY, **settings: Any) -> TunePlan:
    """A search over these words of --search; settings with __ for the dot."""
    given = {key.replace("__", "."): value for key, value in settings.items()}
    base = flat(config_from(given))
    del base["run.dir"], base["run.seed"]
    options = SyncTrainerOptions("OneRight-v0", frames, eval_every=EVERY, eval_episodes=2)
    return TunePlan(options, 1, 1, base, parse_space(words, base))


def made_up(monkeypatch: pytest.MonkeyPatch, curve: Curve) -> list[MadeUpWorkers]:
    """Have searches play such trials; the workers that they make."""
    made: list[MadeUpWorkers] = []

    def workers(_play: object, most: int) -> MadeUpWorkers:
        made.append(MadeUpWorkers(curve, most))
        return made[-1]

    monkeypatch.setattr(search, "Workers", workers)
    return made


def found(folder: Path, what: TunePlan, trials: int, workers: int = 1) -> list[TrialResult]:
    """The results of a search."""
    with Search(folder, what) as going:
        going.run(trials, workers, lambda *_: None)
        return going.results
