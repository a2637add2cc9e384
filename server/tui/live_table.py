"""What a run looks like in a terminal: one live table, and plain lines where there is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from server.ipc.messages import GATEWAY, TRAINER

_LINE_EVERY = 5
"""Plain output has a line for every 5th row: enough to follow, little enough to keep."""


class Screen:
    """Shows rows of metrics as they come. Use it as a context manager."""

    def __init__(
        self,
        console: Console,
        title: str,
        *,
        frames: int | None = None,
        lines: Callable[[str], None] | None = None,
    ) -> None:
        """`frames`: how many there will be. `lines`: where lines go instead of the console, and
        there is no table then."""
        self.console = console
        self._print = lines or (lambda text: console.print(text, soft_wrap=True))
        self._line = self._hint = ""
        self.paused: Callable[[], bool] = lambda: False
        """Whether training is."""
        self._title = title
        self._note = "waiting for a game"
        self._row: dict[str, float] = {}
        self._rows = 0
        self._progress: Progress | None = None
        if frames is not None:
            self._progress = Progress(
                TextColumn("frames"), BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn(),
                console=console,
            )  # fmt: skip
            self._task = self._progress.add_task("frames", total=frames)
        self._live: Live | None = None
        if console.is_terminal and lines is None:
            self._live = Live(
                console=console, refresh_per_second=4, get_renderable=self._render, transient=False
            )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    @property
    def live(self) -> bool:
        """There is a table, and not only lines."""
        return self._live is not None

    def say(self, text: str) -> None:
        """A line below the table: what a key asks, and what came of it."""
        self._line = text

    def hint(self, text: str) -> None:
        """The last line: which keys there are."""
        self._hint = text

    def note(self, text: str) -> None:
        """What is going on just now."""
        if text != self._note:
            self._note = text
            if not self._live:
                self._print(text)

    def show(self, row: dict[str, float]) -> None:
        """A new row of metrics."""
        self._row = row
        self._rows += 1
        if self._progress:
            self._progress.update(self._task, completed=row.get("frames", 0.0))
        if not self._live and self._rows % _LINE_EVERY == 0:
            self._print(plain_line(row))

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = [table(self._row)]
        if self._progress:
            parts.append(self._progress)
        if self._line:
            parts.append(Text(self._line, style="bold"))
        if self._hint:
            parts.append(Text(self._hint, style="dim"))
        note = f"{self._note}, training paused" if self.paused() else self._note
        return Panel(Group(*parts), title=self._title, subtitle=note, padding=(0, 1))


def table(row: dict[str, float]) -> Table:
    """A row of metrics as a table: what is going on, and student and teacher side by side. 78
    columns wide."""
    outer = Table.grid(padding=(0, 4))
    counters = Table.grid(padding=(0, 2))
    counters.add_column(style="dim")
    counters.add_column(justify="right")
    for name, text in (
        ("frames", number(row, "frames", 0)),
        ("frames/s", number(row, "frames_per_s", 0)),
        ("steps/s", number(row, "updates_per_s", 0)),
        ("replay fill", percent(row, "buffer_fill")),
        ("expert ratio", percent(row, "expert_ratio")),
        ("epsilon", number(row, "epsilon", 3)),
        ("clients", number(row, "clients", 0)),
        ("answer p99 ms", number(row, "turn_p99_ms", 1)),
    ):
        counters.add_row(name, text)
    restarts = sum(row.get(f"restarts_{kind}", 0.0) for kind in (GATEWAY, TRAINER))
    if restarts:  # news, and else not worth a line
        counters.add_row("restarts", f"{restarts:.0f}", style="bold")
    learning = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("FracDQN", "TDdqn", "TDexp", "Qdqn", "Qexp"):
        learning.add_column(heading, justify="right", min_width=7)
    learning.add_row(
        percent(row, "batch_frac_dqn"),
        number(row, "td_err_mean_dqn", 3),
        number(row, "td_err_mean_expert", 3),
        number(row, "q_mean_dqn", 2),
        number(row, "q_mean_expert", 2),
    )
    actors = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("", "student", "teacher"):
        actors.add_column(heading, justify="right" if heading else "left", min_width=7)
    actors.columns[0].style = "dim"
    for name, student, teacher in (
        ("evaluation", "eval_return_mean", "expert_return_mean"),
        ("best evaluation", "eval_return_best", ""),
        ("reward a frame", "reward_frame_mean_dqn", "reward_frame_mean_expert"),
    ):
        digits = 3 if "reward" in name else 1
        actors.add_row(name, number(row, student, digits), number(row, teacher, digits))
    together = Table.grid(padding=(0, 2))
    together.add_column(style="dim")
    together.add_column(justify="right")
    together.add_row(" evaluated at frame", number(row, "eval_frames", 0))
    together.add_row(" training episodes since this start", number(row, "episodes", 0))
    together.add_row(" mean return of the last 100", number(row, "episode_return_mean", 1))
    outer.add_row(counters, Group(learning, "", actors, "", together))
    return outer


def plain_line(row: dict[str, float]) -> str:
    """A row of metrics as one line of text."""
    return (
        f"frames {number(row, 'frames', 0)}  {number(row, 'frames_per_s', 0)}/s  "
        f"steps/s {number(row, 'updates_per_s', 0)}  replay {percent(row, 'buffer_fill')}  "
        f"FracDQN {percent(row, 'batch_frac_dqn')}  "
        f"TDdqn {number(row, 'td_err_mean_dqn', 3)}  TDexp {number(row, 'td_err_mean_expert', 3)}  "
        f"Qdqn {number(row, 'q_mean_dqn', 2)}  Qexp {number(row, 'q_mean_expert', 2)}  "
        f"expert {percent(row, 'expert_ratio')}  eps {number(row, 'epsilon', 3)}  "
        f"reward dqn {number(row, 'reward_frame_mean_dqn', 3)} "
        f"expert {number(row, 'reward_frame_mean_expert', 3)}  "
        f"return {number(row, 'episode_return_mean', 1)}  "
        f"student {number(row, 'eval_return_mean', 1)} "
        f"teacher {number(row, 'expert_return_mean', 1)}"
    )


def number(row: dict[str, float], name: str, digits: int) -> str:
    """A metric with so many digits; a dash where there is none yet."""
    value = row.get(name, math.nan)
    return "–" if math.isnan(value) else f"{value:,.{digits}f}"


def percent(row: dict[str, float], name: str) -> str:
    """A fraction as a percentage; a dash where there is none yet."""
    value = row.get(name, math.nan)
    return "–" if math.isnan(value) else f"{value:.1%}"
