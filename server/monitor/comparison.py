"""Several runs side by side, from their folders: overviews, curves by frames, and the settings that
differ. What `understudy compare` prints, and what the dashboard's page of that name draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from config.fields import all_settings, flat
from config.load import ConfigError, config_of_run
from server.monitor.earlier_rows import with_current_names
from server.monitor.game_metrics import is_game_metric
from server.monitor.metrics import SERIES
from server.run.evaluation import read_evaluations
from server.run.history import spread, thinned
from server.run.metrics_log import MetricsLog
from server.run.overview import overview

Point = tuple[int, float]
"""Stored frames of the run, and the value there."""

EVALUATION = "evaluation"
"""The curve of the network's evaluations; the others have the names of metrics."""

CURVES = (EVALUATION, "episode_return_mean")
"""What is compared where nothing else is asked for."""

POINTS = 400
"""Of a curve, at most."""


def check_curve(name: str) -> str:
    """The name, if there is such a curve. Errors: ValueError."""
    if name != EVALUATION and name not in SERIES and not is_game_metric(name):
        raise ValueError(
            f"expected {EVALUATION} or the name of a metric (docs/metrics.md), got {name!r}"
        )
    return name


def compare(folders: Sequence[Path], curves: Iterable[str] = CURVES) -> dict[str, Any]:
    """Plain data: `runs` (an overview each, with a `label` that no other has), `curves` (name to a
    curve for each run), `settings` (key to a value for each run, of those that differ; None where a
    run's configuration cannot be read, and then its overview says why).

    Errors: ConfigError where one is no run, OSError.
    """
    runs = [overview(folder).plain() for folder in folders]
    names = [run["name"] for run in runs]
    for run, name in zip(runs, names, strict=True):
        run["label"] = run["folder"] if names.count(name) > 1 else name
    settings: list[dict[str, str] | None] = []
    for run, folder in zip(runs, folders, strict=True):
        try:
            settings.append(_settings(folder))
        except ConfigError as error:
            settings.append(None)
            run["problem"] = "; ".join(filter(None, (run["problem"], str(error))))
    return {
        "runs": runs,
        "curves": {name: [curve(folder, name) for folder in folders] for name in curves},
        "settings": _different(settings),
    }


def curve(folder: Path, name: str, points: int = POINTS) -> list[Point]:
    """A number of a run by its frames, in at most so many points, frames rising. Where the run went
    back to an older checkpoint, what it had beyond that is left out. Errors: OSError."""
    return spread(_rising(_points(folder, name)), points)


def _points(folder: Path, name: str) -> Iterator[Point]:
    if name == EVALUATION:
        found = read_evaluations(folder / "evaluations.jsonl")
        yield from thinned(
            (one.frames, one.mean) for one in found if one.mean is not None and one.counts
        )
        return
    for row in map(with_current_names, MetricsLog(folder / "metrics.jsonl").sample()):
        frames, value = row.get("frames"), row.get(name)
        if isinstance(frames, int | float) and isinstance(value, int | float):
            yield int(frames), float(value)


def _rising(points: Iterable[Point]) -> list[Point]:
    found: list[Point] = []
    for point in points:
        while found and found[-1][0] >= point[0]:
            found.pop()
        found.append(point)
    return found


def _settings(folder: Path) -> dict[str, str]:
    """Each setting's value in words, by key."""
    known = all_settings()
    return {
        key: known[key].show(value)
        for key, value in flat(config_of_run(folder)).items()
        if not known[key].secret and key != "run.dir"
    }


def _different(settings: Sequence[dict[str, str] | None]) -> dict[str, list[str | None]]:
    there = [each for each in settings if each is not None]
    keys = [key for key in all_settings() if len({each[key] for each in there if key in each}) > 1]
    return {key: [None if each is None else each[key] for each in settings] for key in keys}
