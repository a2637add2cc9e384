"""The search itself: Optuna draws the settings of each trial from what earlier ones showed, and its
median rule says which are stopped early.

    Optuna ──values──▶ TunePlan.trial ──▶ worker ──evaluations──▶ Optuna: go on, or stop
       ▲                                    │
       └───────────────score────────────────┘

All is kept in a database in the search's folder at once. A search that was killed goes on there:
what it knew counts, and what it was playing is played again.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.trial import FrozenTrial, TrialState

from config.load import ConfigError
from config.passing import InUse
from lab.study.given import keys_of
from lab.study.workers import JobFailed, Workers
from lab.sync_trainer import EvaluationPoint
from lab.tune.outcome import FAILED, FINISHED, STOPPED, TrialResult
from lab.tune.plan import TunePlan, play_trial, score
from lab.tune.space import SEARCH, SearchChoices

DATABASE = "trials.db"
LOCK = "lock"

FREE_TRIALS = 5
"""Trials that must be complete before others are compared with them."""
FREE_PART = 4
"""One divided by the part of a run, at its beginning, in which no trial is stopped."""
MOST_FAILURES = 3
"""Trials that may fail one after the other: then more of them would fail too."""

_PLAN, _ERROR = "plan", "error"

Show = Callable[[int, EvaluationPoint | TrialResult | None], None]
"""Is told, with its number, when a trial begins (None), is evaluated, and has ended."""


class TuneFailed(Exception):
    """Trials fail one after the other; why."""


class Search:
    """A search in a folder, from its beginning or from where it was. Use it as a context
    manager."""

    def __init__(self, folder: Path, plan: TunePlan) -> None:
        """Errors: ConfigError where the folder holds a search of something else; InUse; OSError."""
        self._plan = plan
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder)
        try:
            self._study = self._opened(folder)
            self.replayed = self._put_back()
            """Trials that were being played when the search last ended, and are played again."""
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._put_back()
        os.close(self._lock)

    @property
    def results(self) -> list[TrialResult]:
        """All trials that have ended, in their order."""
        trials = self._study.get_trials(deepcopy=False)
        return [self._result(trial.number) for trial in trials if _is_over(trial)]

    def importances(self) -> dict[str, float]:
        """Which share of what makes trials good goes with which setting, the largest first
        (PED-ANOVA, Watanabe et al. 2023, arXiv:2304.10255); nothing where few are finished."""
        complete = [r.score for r in self.results if r.state == FINISHED]
        if len(complete) < 2 * FREE_TRIALS or len(set(complete)) < 2:
            return {}
        found: dict[str, float] = optuna.importance.get_param_importances(self._study)
        return found

    def run(self, trials: int, workers: int, show: Show) -> None:
        """Play until so many trials have ended, those of before included, `workers` at a time.

        Errors: TuneFailed.
        """
        over, failed = len(self.results), 0
        playing: dict[int, tuple[optuna.Trial, list[float]]] = {}
        with Workers(play_trial, workers) as pool:
            while over < trials:
                while pool.free and over + pool.busy < trials:
                    drawn = self._study.ask()
                    show(drawn.number, None)
                    try:
                        trial = self._plan.trial(drawn.number, self._draw(drawn))
                    except ConfigError as error:
                        self._end(drawn, [], str(error))
                        over += 1
                        show(drawn.number, self._result(drawn.number))
                    else:
                        playing[trial.number] = drawn, []
                        pool.start(trial)
                for trial, news in pool.wait() if pool.busy else ():
                    drawn, means = playing[trial.number]
                    if isinstance(news, EvaluationPoint):
                        means.append(news.mean)
                        drawn.report(news.mean, news.frames)
                        show(trial.number, news)
                        if news.frames >= trial.options.frames or not drawn.should_prune():
                            continue
                        pool.stop(trial)
                        self._study.tell(drawn, state=TrialState.PRUNED)
                    else:
                        self._end(drawn, means, news.message if isinstance(news, JobFailed) else "")
                    del playing[trial.number]
                    over += 1
                    result = self._result(trial.number)
                    show(trial.number, result)
                    failed = failed + 1 if result.state == FAILED else 0
                    if failed == MOST_FAILURES:
                        raise TuneFailed(result.error)

    def _opened(self, folder: Path) -> optuna.Study:
        """The study in the folder, or a new one."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=f"sqlite:///{folder / DATABASE}",
            study_name="tune",
            direction="maximize",
            load_if_exists=True,
        )
        plan = self._plan
        described = plan.described()
        if known := study.user_attrs.get(_PLAN):
            _same(folder, json.loads(known), described)
        else:
            if not study.trials and (given := self._as_given()) is not None:
                study.enqueue_trial(given)
            study.set_user_attr(_PLAN, json.dumps(described))
        seed = plan.seed + len(study.trials)  # not the draws of the beginning again
        study.sampler = optuna.samplers.TPESampler(seed=seed)
        study.pruner = optuna.pruners.MedianPruner(
            n_startup_trials=FREE_TRIALS, n_warmup_steps=plan.options.frames // FREE_PART
        )
        return study

    def _draw(self, trial: optuna.Trial) -> dict[str, Any]:
        """The values of a trial by the dimension's name."""
        found: dict[str, Any] = {}
        for each in self._plan.space:
            if isinstance(each, SearchChoices):
                found[each.name] = each.value(trial.suggest_categorical(each.name, each.texts))
            elif isinstance(each.low, int):
                found[each.name] = trial.suggest_int(each.name, each.low, each.high, log=each.log)
            else:
                found[each.name] = trial.suggest_float(each.name, each.low, each.high, log=each.log)
        return found

    def _as_given(self) -> dict[str, Any] | None:
        """The settings that trials have unless they are searched, as Optuna's values; None where
        one of them cannot be drawn."""
        found: dict[str, Any] = {}
        for each in self._plan.space:
            values = [self._plan.base[key] for key in keys_of(each.name, SEARCH)]
            if any(value != values[0] for value in values):
                return None
            if isinstance(each, SearchChoices):
                text = each.text(values[0])
                if text is None:
                    return None
                found[each.name] = text
            elif each.holds(values[0]):
                found[each.name] = values[0]
            else:
                return None
        return found

    def _end(self, trial: optuna.Trial, means: list[float], error: str) -> None:
        """Tell Optuna how a trial has ended that nobody stopped."""
        if not error and not math.isfinite(score(means)):
            error = f"expected a mean return that is a number, got {score(means)}"
        if error:
            trial.set_user_attr(_ERROR, error)
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, score(means))

    def _put_back(self) -> int:
        """Have the trials that nobody plays any more played again; how many there were."""
        lost = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in lost:
            self._study.enqueue_trial(trial.params)
            self._study.tell(trial.number, state=TrialState.FAIL)
        return len(lost)

    def _result(self, number: int) -> TrialResult:
        trial = self._study.get_trials(deepcopy=False)[number]
        drawn = {
            each.name: each.value(trial.params[each.name])
            if isinstance(each, SearchChoices)
            else trial.params[each.name]
            for each in self._plan.space
        }
        steps = sorted(trial.intermediate_values)
        values = list(trial.intermediate_values.values())
        return TrialResult(
            number=trial.number,
            state=_STATES[trial.state],
            score=trial.value if trial.state == TrialState.COMPLETE else math.nan,
            best=max(values, default=math.nan),
            frames=steps[-1] if steps else 0,
            seconds=trial.duration.total_seconds(),
            drawn=drawn,
            error=trial.user_attrs.get(_ERROR, ""),
        )


_STATES = {TrialState.COMPLETE: FINISHED, TrialState.PRUNED: STOPPED, TrialState.FAIL: FAILED}


def _is_over(trial: FrozenTrial) -> bool:
    """Whether it has ended by itself: one that failed without an error was put back."""
    return trial.state in _STATES and (trial.state != TrialState.FAIL or _ERROR in trial.user_attrs)


def _same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Errors: ConfigError where a folder's search is another one."""
    for name, value in now.items():
        if before.get(name) != value:
            raise ConfigError(
                f"{folder} holds another search: {name} was {json.dumps(before.get(name))} there, "
                f"and is {json.dumps(value)} now; give it as before, or begin a search in another "
                "folder with --out"
            )


def _locked(folder: Path) -> int:
    """A lock on the folder, which ends with this process. Errors: InUse, OSError."""
    file = os.open(folder / LOCK, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise InUse(
            f"--out: another search is at work in {folder}; wait for it, or choose another folder"
        ) from None
    return file
