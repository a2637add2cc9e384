"""The results of a comparison: a file of JSON lines for each run, and what is read from them.

A file has the run's description in its first line, then one line for each evaluation, and it is
given its name only when the run is complete: whatever is there counts, and is not run again.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.arena import Evaluation

if TYPE_CHECKING:
    from server.study_design import Job

FOLDER = Path("results")


@dataclass(frozen=True)
class Run:
    """One complete run."""

    seed: int
    evaluations: tuple[Evaluation, ...]
    made: Mapping[str, Any] = field(default_factory=dict)
    """Where it was made: revision, machine, versions."""

    @property
    def final(self) -> float:
        """Mean return of the last evaluation."""
        return self.evaluations[-1].mean

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.evaluations[-1].seconds

    def returns(self, episodes: int) -> list[float]:
        """The mean return of each evaluation, over its first `episodes` episodes."""
        return [statistics.fmean(e.returns[:episodes]) for e in self.evaluations]

    def passed(self, level: float, episodes: int) -> Evaluation | None:
        """The first evaluation whose return exceeds a level."""
        for evaluation, mean in zip(self.evaluations, self.returns(episodes), strict=True):
            if mean > level:
                return evaluation
        return None

    def metric(self, name: str) -> list[float]:
        """A metric of training in the interval before each evaluation; NaN where there is none."""
        return [e.metrics.get(name, math.nan) for e in self.evaluations]


@dataclass(frozen=True)
class Results:
    """What is known of a comparison."""

    episodes: int
    """Episodes of an evaluation, the last one's first ones among them."""
    seeds: int
    """Runs of each variant that a verdict needs."""
    runs: Mapping[tuple[str, str], list[Run]]
    """Complete runs by scene and variant, in the order of their seeds."""
    experts: Mapping[str, list[float]]
    """Returns of the expert alone, by scene."""

    def of(self, scene: str, variant: str) -> list[Run]:
        """The complete runs of a variant in a scene."""
        return self.runs.get((scene, variant), [])

    def expert(self, scene: str) -> float:
        """The expert's mean return; NaN if it was not measured."""
        returns = self.experts.get(scene)
        return statistics.fmean(returns) if returns else math.nan


def path_of(folder: Path, job: Job) -> Path:
    """The file of a job's results."""
    return folder / job.comparison / f"{job.key}.jsonl"


class Writer:
    """Writes the file of one run while it goes on."""

    def __init__(self, path: Path, job: Job, made: Mapping[str, Any]) -> None:
        self._path = path
        self._part = path.with_suffix(".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("w", encoding="utf-8")
        about = {"scene": job.scene, "variant": job.variant, "seed": job.seed}
        self._line(about | {"made": dict(made)} | job.settings)

    def add(self, evaluation: Evaluation) -> None:
        """An evaluation is complete."""
        self._line(
            {
                "frames": evaluation.frames,
                "seconds": round(evaluation.seconds, 3),
                "returns": evaluation.returns,
                "metrics": {
                    name: None if math.isnan(value) else value
                    for name, value in evaluation.metrics.items()
                },
            }
        )

    def complete(self) -> None:
        """The run is complete: from now on its file counts."""
        self._file.close()
        self._part.replace(self._path)

    def _line(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()


def read(path: Path) -> Run:
    """A complete run. Errors: ValueError that names the file."""
    try:
        with path.open(encoding="utf-8") as file:
            about, *rows = map(json.loads, file)
        evaluations = [
            Evaluation(
                row["frames"],
                tuple(row["returns"]),
                row["seconds"],
                {k: math.nan if v is None else v for k, v in row["metrics"].items()},
            )
            for row in rows
        ]
        if not evaluations:
            raise ValueError("it has no evaluation")
        return Run(about["seed"], tuple(evaluations), about["made"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); remove it and run the study again"
        ) from None


def load(folder: Path, jobs: Iterable[Job], *, episodes: int, seeds: int) -> Results:
    """The results of those jobs that are complete."""
    runs: dict[tuple[str, str], list[Run]] = {}
    experts: dict[str, list[float]] = {}
    for job in jobs:
        path = path_of(folder, job)
        if not path.exists():
            continue
        run = read(path)
        if job.variant:
            runs.setdefault((job.scene, job.variant), []).append(run)
        else:
            experts[job.scene] = list(run.evaluations[-1].returns)
    return Results(episodes, seeds, runs, experts)
