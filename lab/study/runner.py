"""Runs jobs in worker processes, one torch thread each, and tells what they do.

    this process                       workers, each with a pipe of its own
    run(jobs) ──Job──▶ pipe ──▶ sync_trainer.run(...), writes the results' file
       ▲                                   │
       └── Told ◀── pipe ◀── EvaluationPoint, Done, JobFailed

A worker that dies takes its job with it and is replaced. Workers end when this process is gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from lab import sync_trainer
from lab.bench.command import machine
from lab.study.design import Job
from lab.study.store import Writer, path_of
from lab.sync_trainer import EvaluationPoint

STOP_S = 5.0


@dataclass(frozen=True)
class Began:
    """A worker took a job."""


@dataclass(frozen=True)
class Done:
    """A job is complete, its results are in their file."""


@dataclass(frozen=True)
class JobFailed:
    """A job ended without results; why."""

    message: str


News = Began | EvaluationPoint | Done | JobFailed


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(jobs: Sequence[Job], folder: Path, workers: int) -> Iterator[tuple[Job, News]]:
    """Run all jobs, `workers` at a time; what happens, as it happens.

    Close the iterator, or leave its loop by an exception, to stop: the runs in progress are lost.
    """
    made = provenance()
    waiting = list(reversed(jobs))
    working: dict[Connection[Any, Any], tuple[BaseProcess, Job]] = {}
    idle: list[tuple[BaseProcess, Connection[Any, Any]]] = []
    try:
        while waiting or working:
            while waiting and len(working) < workers:
                process, pipe = idle.pop() if idle else _start(folder, made)
                job = waiting.pop()
                working[pipe] = process, job
                pipe.send(job)
                yield job, Began()
            for ready in connection.wait(list(working)):
                assert isinstance(ready, Connection)
                pipe = ready
                process, job = working[pipe]
                try:
                    news: News = pipe.recv()
                except (EOFError, OSError):
                    process.join()
                    del working[pipe]
                    yield job, JobFailed(f"its process ended with exit code {process.exitcode}")
                    continue
                if isinstance(news, Done | JobFailed):
                    idle.append((process, pipe))
                    del working[pipe]
                yield job, news
    finally:
        _stop([process for process, _ in idle] + [process for process, _ in working.values()])


def provenance() -> dict[str, Any]:
    """What results are made with and on."""
    revision = ""
    with contextlib.suppress(OSError):  # no git
        revision = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
        ).stdout.strip()  # fmt: skip
    return {"revision": revision or "unknown", **machine("cpu")}


def _start(folder: Path, made: dict[str, Any]) -> tuple[BaseProcess, Connection[Any, Any]]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_work, args=(theirs, folder, made), name="study", daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _stop(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    until = time.monotonic() + STOP_S
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _work(pipe: Connection[Any, Any], folder: Path, made: dict[str, Any]) -> None:
    """A worker: one job after the other, until there is nobody to ask for more."""
    # Ctrl-C reaches the whole group of processes; whoever started the workers ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, OSError):
        while True:
            job: Job = pipe.recv()
            news: News = Done()
            try:
                play(job, folder, made, pipe.send)
            except Exception as error:
                news = JobFailed(f"{type(error).__name__}: {error}")
            pipe.send(news)


def play(
    job: Job, folder: Path, made: dict[str, Any], tell: Callable[[EvaluationPoint], None]
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
