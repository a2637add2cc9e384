"""What a search is of: the game, how long each trial plays, and the space; and a trial of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from config.fields import all_settings
from config.load import config_from
from config.models import Config
from lab.study.design import ELSEWHERE
from lab.study.given import keys_of
from lab.sync_trainer import EvaluationPoint, SyncTrainer, SyncTrainerOptions, one_thread
from lab.tune.space import SEARCH, UNREAD, Dimension

LAST = 1 / 3
"""The part of a run, at its end, whose evaluations are its score."""


@dataclass(frozen=True)
class Trial:
    """One drawing of settings, to be played with each seed."""

    number: int
    configs: tuple[Config, ...]
    """The same but for the seed."""
    options: SyncTrainerOptions


@dataclass(frozen=True)
class TunePlan:
    """All that a search depends on, but for how many trials it has."""

    options: SyncTrainerOptions
    seeds: int
    """Runs of each trial."""
    seed: int
    """The first run's; the others' follow."""
    base: Mapping[str, Any]
    """Settings by key that all trials have unless they are searched."""
    space: tuple[Dimension, ...]

    def settings(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The settings by key, of values by the dimension's name."""
        return {key: value for name, value in drawn.items() for key in keys_of(name, SEARCH)}

    def trial(self, number: int, drawn: Mapping[str, Any]) -> Trial:
        """The trial of these values. Errors: ConfigError where they do not go together."""
        own = {"trainer.device": "cpu", "replay.device": "cpu"} | self.settings(drawn)
        configs = tuple(
            config_from({**self.base, **own, "run.seed": self.seed + k}, source=f"trial {number}")
            for k in range(self.seeds)
        )
        return Trial(number, configs, self.options)

    def learnt(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The settings by key to learn as a trial did: what was drawn, and what of the base is
        no default."""
        known = all_settings()
        others = {
            key: value
            for key, value in self.base.items()
            if key.partition(".")[0] not in ELSEWHERE
            and key not in UNREAD
            and value != known[key].default
        }
        return {key: known[key].plain(v) for key, v in (others | self.settings(drawn)).items()}

    def described(self) -> dict[str, Any]:
        """The plan as plain data, to be recognized by."""
        options = self.options
        return {
            "--env": options.env,
            "--expert": options.expert,
            "--weaken": options.weaken,
            "--frames": options.frames,
            "--eval-every": options.eval_every,
            "--eval-episodes": options.eval_episodes,
            "--seeds": self.seeds,
            "--seed": self.seed,
            "--search": list(map(str, self.space)),
            "settings": self.learnt({}),
        }


def play_trial(trial: Trial, tell: Callable[[EvaluationPoint], None]) -> None:
    """Play a trial: its runs side by side, so that each evaluation is one of all of them. What is
    told has the returns of all runs."""
    with one_thread(), ExitStack() as stack:
        runs = [stack.enter_context(SyncTrainer(each, trial.options)) for each in trial.configs]
        for points in zip(*(run.evaluations() for run in runs), strict=True):
            returns = tuple(one for point in points for one in point.returns)
            tell(EvaluationPoint(points[0].frames, returns, max(p.seconds for p in points)))


def score(means: Sequence[float]) -> float:
    """What a trial is worth: the mean of the evaluations in the last third of its run, at least of
    the last one. `means`: the mean return of each evaluation, in order."""
    return statistics.fmean(means[-math.ceil(len(means) * LAST) :])
