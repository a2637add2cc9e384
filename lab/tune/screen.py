"""What a search looks like while it runs: a progress bar for each trial, and plain lines without a
terminal."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lab.sync_trainer import EvaluationPoint
from lab.tune.outcome import FAILED, STOPPED, TrialResult, drawn_text


class TuneScreen:
    """Shows trials as they are played. Use it as a context manager."""

    def __init__(self, console: Console, over: int, trials: int, frames: int) -> None:
        """`over` trials have ended before, of `trials` that there are to be, of so many frames."""
        self._over, self._trials, self._frames = over, trials, frames
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, number: int, news: EvaluationPoint | TrialResult | None) -> None:
        """A trial began (None), was evaluated, or has ended."""
        name = f"trial {number}"
        if news is None:
            self._tasks[number] = self._progress.add_task(name, total=self._frames, note="")
        elif isinstance(news, EvaluationPoint):
            note = f"return {news.mean:.1f}"
            self._progress.update(self._tasks[number], completed=news.frames, note=note)
        else:
            self._progress.remove_task(self._tasks.pop(number))
            self._over += 1
            if news.state == FAILED:
                said = f"FAILED: {news.error}"
            elif news.state == STOPPED:
                said = f"stopped at {news.frames} frames, as it was worse than half of the others"
            else:
                said = f"score {news.score:.1f} after {news.seconds:.0f} s"
            # Above the bars, where there are any.
            self._progress.console.print(
                f"{self._over}/{self._trials}  {name}: {said} ({drawn_text(news.drawn)})",
                highlight=False,
                soft_wrap=True,
            )
