"""Runs the jobs of a study in worker processes (`lab.study.workers`), each with a file of results
that is there once its run is complete."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lab import sync_trainer
from lab.bench.command import machine
from lab.study.design import Job
from lab.study.store import Writer, path_of
from lab.study.workers import Began, News, Workers
from lab.sync_trainer import EvaluationPoint


def run(jobs: Sequence[Job], folder: Path, workers: int) -> Iterator[tuple[Job, News]]:
    """Run all jobs, `workers` at a time; what happens, as it happens.

    Close the iterator, or leave its loop by an exception, to stop: the runs in progress are lost.
    """
    waiting = list(reversed(jobs))
    with Workers(partial(play, folder=folder, made=provenance()), workers) as pool:
        while waiting or pool.busy:
            while waiting and pool.free:
                job = waiting.pop()
                pool.start(job)
                yield job, Began()
            yield from pool.wait()


def provenance() -> dict[str, Any]:
    """What results are made with and on."""
    revision = ""
    with contextlib.suppress(OSError):  # no git
        revision = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
        ).stdout.strip()  # fmt: skip
    return {"revision": revision or "unknown", **machine("cpu")}


def play(
    job: Job, tell: Callable[[EvaluationPoint], None], folder: Path, made: dict[str, Any]
) -> None:
    """Play a job and write its results."""
    writer = Writer(path_of(folder, job), job, made)

    def add(evaluation: EvaluationPoint) -> None:
        writer.add(evaluation)
        tell(evaluation)

    if job.config is None:
        began = time.monotonic()
        returns = sync_trainer.evaluate_expert(job.options)
        add(EvaluationPoint(0, tuple(returns), time.monotonic() - began))
    else:
        sync_trainer.run(job.config, job.options, add)
    writer.complete()
