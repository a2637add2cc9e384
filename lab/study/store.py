"""The files of results: a file of JSON lines for each run.

A file has the run's description in its first line, then one line for each evaluation, and it is
given its name only when the run is complete: whatever is there counts, and is not run again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lab.study.design import Job
from lab.study.results import Results, Run
from lab.sync_trainer import EvaluationPoint

FOLDER = Path("results")


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

    def add(self, evaluation: EvaluationPoint) -> None:
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
            EvaluationPoint(
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
