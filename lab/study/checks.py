"""What is expected of a comparison's results, and what is said of it: always computed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from lab.study.results import Results, Run
from lab.study.statistics import Estimate, difference, estimate, improvement, show, text


@dataclass(frozen=True)
class Verdict:
    """What was expected, what came, and whether that is it."""

    target: str
    measured: str
    met: bool | None
    """None: there are not enough runs to say."""

    @property
    def word(self) -> str:
        """The verdict in a word."""
        return "not enough runs" if self.met is None else "met" if self.met else "NOT met"


class Check(Protocol):
    """One expectation."""

    @property
    def scene(self) -> str: ...
    @property
    def scenes(self) -> tuple[str, ...]: ...
    @property
    def variants(self) -> tuple[str, ...]: ...

    def judge(self, results: Results) -> Verdict:
        """What the results say of it."""


@dataclass(frozen=True)
class _OfOne:
    """What is expected of a variant in a scene."""

    scene: str
    variant: str

    @property
    def scenes(self) -> tuple[str, ...]:
        return (self.scene,)

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.variant,)


@dataclass(frozen=True)
class Passes(_OfOne):
    """The evaluation return exceeds a level in time, by the interquartile mean over seeds or in
    every one of them."""

    level: float | None
    """None: the mean return of the expert."""
    by: float
    unit: Literal["frames", "seconds"] = "frames"
    every_seed: bool = False
    of: str | None = None
    """The scene whose expert is meant, where it is another's."""
    less: float = 0.0
    """How far below the level it may be."""

    @property
    def scenes(self) -> tuple[str, ...]:
        return (self.scene, self.of) if self.of else (self.scene,)

    def judge(self, results: Results) -> Verdict:
        level, what = _level(self, results)
        target = (
            f"{_who(self)}: {self.unit} until the evaluation return first exceeds {what}: at most "
            f"{text(self.by)} {_over(self.every_seed)}"
        )
        runs = results.of(self.scene, self.variant)
        if missing := _missing(runs, results, level):
            return Verdict(target, missing, None)
        found = [when(run, level, results.episodes, self.unit) for run in runs]
        return Verdict(target, *_judged(found, self.every_seed, at_most=self.by))


@dataclass(frozen=True)
class Ends(_OfOne):
    """The return of the last evaluation is at least a level, by the interquartile mean over seeds
    or in every one of them."""

    level: float | None
    """None: the mean return of the expert, over the same episodes."""
    less: float = 0.0
    """How far below the level it may be; negative: how far above it must be."""
    every_seed: bool = False

    def judge(self, results: Results) -> Verdict:
        level, within = _level(self, results)
        target = f"{_who(self)}: return at the end: at least {within} {_over(self.every_seed)}"
        runs = results.of(self.scene, self.variant)
        if missing := _missing(runs, results, level):
            return Verdict(target, missing, None)
        found = [run.final for run in runs]
        return Verdict(target, *_judged(found, self.every_seed, at_least=level))


@dataclass(frozen=True)
class Trend(_OfOne):
    """A metric rises, or falls, while it is trained: the mean of the last quarter of the
    evaluations' intervals against that of the first. Met where the whole interval says so."""

    metric: str
    rises: bool

    def judge(self, results: Results) -> Verdict:
        word = "rises" if self.rises else "falls"
        target = f"{_who(self)}: `{self.metric}` {word} during training"
        runs = results.of(self.scene, self.variant)
        if missing := _missing(runs, results):
            return Verdict(target, missing, None)
        changes = [change(run.metric(self.metric)) for run in runs]
        if any(math.isnan(each) for each in changes):
            return Verdict(target, "it was not measured in every run", None)
        found = estimate(changes)
        met = found.low > 0 if self.rises else found.high < 0
        return Verdict(target, f"by {show(found, _digits(found))}", met)


@dataclass(frozen=True)
class Better(_OfOne):
    """A variant's return over the whole run (the mean of its evaluations) is above another's. Met
    where the whole interval of the difference says so."""

    than: str

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.variant, self.than)

    def judge(self, results: Results) -> Verdict:
        target = f"{_who(self)}: mean return over all evaluations above that of {self.than}"
        a, b = (_curves(results, self.scene, variant) for variant in self.variants)
        if missing := _few(a, results) or _few(b, results):
            return Verdict(target, missing, None)
        found = difference(a, b)
        return Verdict(target, f"difference {show(found)}", found.low > 0)


@dataclass(frozen=True)
class NotWorse(_OfOne):
    """A variant's return over the whole run (the area under its evaluation curve) is at least
    another's, by the interquartile mean over seeds."""

    than: str

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.variant, self.than)

    def judge(self, results: Results) -> Verdict:
        target = f"{_who(self)}: mean return over all evaluations at least that of {self.than}"
        a, b = (_curves(results, self.scene, variant) for variant in self.variants)
        if missing := _few(a, results) or _few(b, results):
            return Verdict(target, missing, None)
        found = difference(a, b)
        return Verdict(target, f"difference {show(found, _digits(found))}", found.point >= 0)


@dataclass(frozen=True)
class NotWorseAnywhere:
    """Over several games, whose returns have no common scale: a run of a variant is as likely to
    have the greater return over the whole run than one of another variant as the other way round,
    or more so (the average probability of improvement, Agarwal et al. 2021). Of the scenes that
    have enough runs."""

    scenes: tuple[str, ...]
    variant: str
    than: str
    scene = ""

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.variant, self.than)

    def judge(self, results: Results) -> Verdict:
        pairs = []
        for scene in self.scenes:
            a, b = (_curves(results, scene, variant) for variant in self.variants)
            if not _few(a, results) and not _few(b, results):
                pairs.append((a, b))
        target = (
            f"{len(pairs)} of {len(self.scenes)} scenes, {self.variant}: probability that a run's "
            f"mean return over all evaluations is above that of {self.than}: at least 0.5 on "
            "average"
        )
        if not pairs:
            return Verdict(target, f"no scene has {results.seeds} runs of both", None)
        found = improvement(pairs)
        return Verdict(target, show(found, 2), found.point >= 0.5)


def when(run: Run, level: float, episodes: int, unit: Literal["frames", "seconds"]) -> float:
    """Frames or seconds until a run first exceeds a level; infinite if it never does."""
    passed = run.passed(level, episodes)
    return math.inf if passed is None else float(getattr(passed, unit))


def overall(run: Run, episodes: int) -> float:
    """The mean return of all evaluations: how soon, how well and how steadily it learnt."""
    return statistics.fmean(run.returns(episodes))


def change(values: list[float]) -> float:
    """The mean of the last quarter less that of the first; NaN of fewer than two numbers."""
    known = [value for value in values if not math.isnan(value)]
    if len(known) < 2:
        return math.nan
    quarter = max(1, len(known) // 4)
    return statistics.fmean(known[-quarter:]) - statistics.fmean(known[:quarter])


def _judged(
    found: list[float],
    every_seed: bool,
    *,
    at_most: float = math.inf,
    at_least: float = -math.inf,
) -> tuple[str, bool]:
    """What was measured, in words, and whether it is within the bounds."""
    judged = estimate(found)
    if every_seed:
        met = all(at_least <= each <= at_most for each in found)
        return f"{', '.join(text(each) for each in found)} (interquartile mean {show(judged)})", met
    return show(judged), at_least <= judged.point <= at_most


def _who(check: _OfOne) -> str:
    return f"{check.scene}, {check.variant}"


def _over(every_seed: bool) -> str:
    return "in every seed" if every_seed else "in the interquartile mean over seeds"


def _level(check: Passes | Ends, results: Results) -> tuple[float, str]:
    """What is to be reached, as a number (NaN: the expert was not measured) and in words."""
    if check.level is not None:
        level, what = check.level, text(check.level)
    else:
        of = check.scenes[-1]
        level = results.expert(of)
        whose = "the expert's" if of == check.scene else f"the expert's of {of},"
        what = f"{whose} {text(level, 1)}"
    if check.less:
        what += f" {'less' if check.less > 0 else 'and'} {text(abs(check.less))}"
    return level - check.less, what


def _curves(results: Results, scene: str, variant: str) -> list[float]:
    """The mean return of all evaluations of each run."""
    return [overall(run, results.episodes) for run in results.of(scene, variant)]


def _few(runs: Sequence[object], results: Results) -> str:
    """Says that there are too few runs to judge by."""
    return f"{len(runs)} of {results.seeds} runs" if len(runs) < results.seeds else ""


def _missing(runs: list[Run], results: Results, level: float = 0.0) -> str:
    """Says what is not there to judge by: runs, or the level that they are to reach."""
    return _few(runs, results) or ("the expert was not measured" if math.isnan(level) else "")


def _digits(found: Estimate) -> int:
    """Enough digits to tell the ends of the interval from 0."""
    scale = max(abs(found.low), abs(found.high))
    return 0 if scale >= 100 else 1 if scale >= 10 else 3
