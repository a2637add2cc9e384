"""What a study looks like while it runs: a progress bar, and plain lines without a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lab.study.design import Job
from lab.study.workers import Began, Done, JobFailed, News
from lab.sync_trainer import EvaluationPoint


class StudyScreen:
    """Shows jobs as they are done. Use it as a context manager."""

    def __init__(self, console: Console, wanted: Sequence[Job], missing: Sequence[Job]) -> None:
        self._console = console
        self._count, self._over = len(missing), 0
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._last: dict[str, EvaluationPoint] = {}
        self._frames = sum(map(_frames, missing))
        ready = len(wanted) - len(missing)
        console.print(f"{len(missing)} runs to make, {ready} are there", highlight=False)

    def __enter__(self) -> Self:
        self._progress.start()
        self._all = self._progress.add_task("all frames", total=self._frames, note="")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, job: Job, news: News) -> None:
        """Something happened."""
        if isinstance(news, Began):
            self._tasks[job.key] = self._progress.add_task(job.title, total=_frames(job), note="")
        elif isinstance(news, EvaluationPoint):
            before = self._last.get(job.key)
            self._last[job.key] = news
            self._progress.advance(self._all, news.frames - (before.frames if before else 0))
            note = f"return {news.mean:.1f}"
            self._progress.update(self._tasks[job.key], completed=news.frames, note=note)
        else:
            self._end(job, news)

    def _end(self, job: Job, news: Done | JobFailed) -> None:
        self._over += 1
        self._progress.remove_task(self._tasks.pop(job.key))
        last = self._last.pop(job.key, None)
        self._progress.advance(self._all, _frames(job) - (last.frames if last else 0))
        if isinstance(news, JobFailed):
            said = f"FAILED: {news.message}"
        else:
            assert last is not None
            said = f"return {last.mean:.1f} after {last.seconds:.0f} s"
        # Above the bar, where there is one.
        self._progress.console.print(
            f"{self._over}/{self._count}  {job.title}: {said}",
            highlight=False,
            soft_wrap=True,
        )


def _frames(job: Job) -> int:
    return job.options.frames if job.variant else 0
