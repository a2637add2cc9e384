"""Worker processes that play jobs, one torch thread each, and tell what they do.

    this process                      workers, each with a pipe of its own
    Workers.start(job) ──job──▶ pipe ──▶ play(job, tell)
    Workers.wait() ◀── (job, news) ◀── pipe ◀── EvaluationPoint, Done, JobFailed

A worker that dies takes its job with it and is replaced. Workers end when this process is gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Self, TypeVar

import torch

from lab.sync_trainer import EvaluationPoint

STOP_S = 5.0

_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Began:
    """A worker took a job."""


@dataclass(frozen=True)
class Done:
    """A job is complete."""


@dataclass(frozen=True)
class JobFailed:
    """A job ended without results; why."""

    message: str


News = Began | EvaluationPoint | Done | JobFailed

J = TypeVar("J")
Play = Callable[[J, Callable[[EvaluationPoint], None]], None]
"""Plays a job to its end, and tells of each evaluation. It is pickled: a function of a module, or a
`functools.partial` of one."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers(Generic[J]):
    """Up to so many worker processes. Use it as a context manager: at its end the jobs in progress
    are lost."""

    def __init__(self, play: Play[J], most: int) -> None:
        self._play, self._most = play, most
        self._working: dict[Connection[Any, Any], tuple[BaseProcess, J]] = {}
        self._idle: list[tuple[BaseProcess, Connection[Any, Any]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        busy = [process for process, _ in self._working.values()]
        _end([process for process, _ in self._idle] + busy)

    @property
    def busy(self) -> int:
        """Jobs in progress."""
        return len(self._working)

    @property
    def free(self) -> int:
        """Jobs that could be started."""
        return self._most - self.busy

    def start(self, job: J) -> None:
        """Have a free worker play it."""
        process, pipe = self._idle.pop() if self._idle else self._new()
        self._working[pipe] = process, job
        pipe.send(job)

    def wait(self) -> list[tuple[J, EvaluationPoint | Done | JobFailed]]:
        """Wait until something happens; at most one piece of news of each job."""
        found: list[tuple[J, EvaluationPoint | Done | JobFailed]] = []
        for ready in connection.wait(list(self._working)):
            assert isinstance(ready, Connection)
            process, job = self._working[ready]
            try:
                news = ready.recv()
            except (EOFError, OSError):
                process.join()
                news = JobFailed(f"its process ended with exit code {process.exitcode}")
            else:
                if isinstance(news, Done | JobFailed):
                    self._idle.append((process, ready))
            if isinstance(news, Done | JobFailed):
                del self._working[ready]
            found.append((job, news))
        return found

    def stop(self, job: J) -> None:
        """End a job in progress, and its worker with it."""
        (pipe,) = (pipe for pipe, (_, one) in self._working.items() if one is job)
        process, _ = self._working.pop(pipe)
        _end([process])
        pipe.close()

    def _new(self) -> tuple[BaseProcess, Connection[Any, Any]]:
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_work, args=(theirs, self._play), name="study", daemon=True)
        process.start()
        theirs.close()
        return process, ours


def _end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    until = time.monotonic() + STOP_S
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _work(pipe: Connection[Any, Any], play: Play[Any]) -> None:
    """A worker: one job after the other, until there is nobody to ask for more."""
    # Ctrl-C reaches the whole group of processes; whoever started the workers ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, OSError):
        while True:
            job = pipe.recv()
            news: Done | JobFailed = Done()
            try:
                play(job, pipe.send)
            except Exception as error:
                news = JobFailed(f"{type(error).__name__}: {error}")
            pipe.send(news)
