"""A run in a terminal: one live table, or plain lines where the output is no terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from server.ipc.messages import GATEWAY, TRAINER

_LINE_EVERY = 5
"""Plain output has one line for this many rows."""

_BY_ACTOR = (
    ("TD error", "td_err_mean", 3),
    ("Q", "q_mean", 2),
    ("reward/frame", "reward_frame_mean", 3),
)
"""Name, metric and digits of what each actor has."""


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
        """`frames`: how many there will be. `lines`: gets plain lines, which then replace the table
        and go to no console."""
        self.console = console
        self._print = lines or (lambda text: console.print(Text(text), soft_wrap=True))
        self._line = self._hint = ""
        self.paused: Callable[[], bool] = lambda: False
        """Whether training is paused."""
        self.warning: Callable[[], str] = lambda: ""
        """The line about what is worth a warning; empty for none."""
        self.nodes: Callable[[], Sequence[Mapping[str, Any]]] = lambda: ()
        """Of a cluster (server.monitor.status.Status.nodes)."""
        self._title = title
        self._note = "waiting for a game"
        self._row: dict[str, float] = {}
        self._rows = 0
        self._progress: Progress | None = None
        if frames is not None:
            self._progress = Progress(
                TextColumn("frames", markup=False), BarColumn(None),
                MofNCompleteColumn(), TimeRemainingColumn(),
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
        """It shows the table, not plain lines."""
        return self._live is not None

    def say(self, text: str) -> None:
        """Show a line below the table: the question of a key, or its result."""
        self._line = text

    def hint(self, text: str) -> None:
        """Show the last line: the keys."""
        self._hint = text

    def note(self, text: str) -> None:
        """Show what the server is doing."""
        if text != self._note:
            self._note = text
            if not self._live:
                self._print(text)

    def show(self, row: dict[str, float]) -> None:
        """Show a new row of metrics."""
        self._row = row
        self._rows += 1
        if self._progress:
            self._progress.update(self._task, completed=row.get("frames", 0.0))
        if not self._live and self._rows % _LINE_EVERY == 0:
            self._print(plain_line(row))
            if nodes := self.nodes():
                self._print(nodes_line(nodes))

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = [table(self._row)]
        if nodes := self.nodes():
            parts.append(nodes_table(nodes))
        if self._progress:
            parts.append(self._progress)
        if warning := self.warning():
            parts.append(Text(warning, style="yellow", no_wrap=True, overflow="ellipsis"))
        if self._line:
            parts.append(Text(self._line, style="bold"))
        if self._hint:
            parts.append(Text(self._hint, style="dim"))
        note = f"{self._note}, training paused" if self.paused() else self._note
        # Text: rich takes a title that is a str for markup, whatever the console says.
        return Panel(Group(*parts), title=Text(self._title), subtitle=Text(note), padding=(0, 1))


def table(row: dict[str, float]) -> Table:
    """A row of metrics as a table: progress on the left, the network and the expert side by side on
    the right. 78 columns wide."""
    outer = Table.grid(padding=(0, 4))
    progress = Table.grid(padding=(0, 2))
    progress.add_column(style="dim")
    progress.add_column(justify="right")
    for name, text in (
        ("frames", number(row, "frames", 0)),
        ("frames/s", number(row, "frames_per_s", 0)),
        ("updates/s", number(row, "updates_per_s", 0)),
        ("updates behind", number(row, "updates_due", 0)),
        ("games wait", percent(row, "games_held")),
        ("replay fill", percent(row, "buffer_fill")),
        ("expert ratio", percent(row, "expert_ratio")),
        ("epsilon", number(row, "epsilon", 3)),
        ("clients", number(row, "clients", 0)),
        ("turn p99, ms", number(row, "turn_p99_ms", 1)),
    ):
        progress.add_row(name, text)
    restarts = sum(row.get(f"restarts_{kind}", 0.0) for kind in (GATEWAY, TRAINER))
    if restarts:
        progress.add_row("restarts", f"{restarts:.0f}", style="bold")
    actors = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("", "dqn", "expert"):
        actors.add_column(heading, justify="right" if heading else "left", min_width=9)
    actors.columns[0].style = "dim"
    for name, dqn, expert in (
        ("share of batches", *_shares(row)),
        *(
            (name, number(row, f"{metric}_dqn", digits), number(row, f"{metric}_expert", digits))
            for name, metric, digits in _BY_ACTOR
        ),
        ("evaluation", number(row, "eval_return_mean", 1), number(row, "expert_return_mean", 1)),
        ("best evaluation", number(row, "eval_return_best", 1), ""),
    ):
        actors.add_row(name, dqn, expert)
    together = Table.grid(padding=(0, 2))
    together.add_column(style="dim")
    together.add_column(justify="right")
    together.add_row(" evaluated at frame", number(row, "eval_frames", 0))
    together.add_row(" training episodes since start", number(row, "episodes", 0))
    together.add_row(" mean return of the last 100", number(row, "episode_return_mean", 1))
    outer.add_row(progress, Group(actors, "", together))
    return outer


def plain_line(row: dict[str, float]) -> str:
    """A row of metrics as one line of text."""
    dqn, expert = _shares(row)
    by_actor = "  ".join(
        f"{name} dqn {number(row, f'{metric}_dqn', digits)} "
        f"expert {number(row, f'{metric}_expert', digits)}"
        for name, metric, digits in _BY_ACTOR
    )
    return (
        f"frames {number(row, 'frames', 0)}  {number(row, 'frames_per_s', 0)}/s  "
        f"updates/s {number(row, 'updates_per_s', 0)}  "
        f"behind {number(row, 'updates_due', 0)}  games wait {percent(row, 'games_held')}  "
        f"replay {percent(row, 'buffer_fill')}  "
        f"expert ratio {percent(row, 'expert_ratio')}  epsilon {number(row, 'epsilon', 3)}  "
        f"batches dqn {dqn} expert {expert}  {by_actor}  "
        f"return {number(row, 'episode_return_mean', 1)}  "
        f"evaluation dqn {number(row, 'eval_return_mean', 1)} "
        f"expert {number(row, 'expert_return_mean', 1)}"
    )


def nodes_table(nodes: Sequence[Mapping[str, Any]]) -> Table:
    """The gateway nodes and learners of a cluster."""
    found = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("cluster", "host", "unacknowledged", "weights, s"):
        found.add_column(heading, justify="left" if heading in ("cluster", "host") else "right")
    for node in nodes:
        style = None if node["answers"] else "bold"
        host = node["host"] if node["answers"] else f"{node['host']} is away"
        found.add_row(
            node["name"], host, number(node, "unacknowledged", 0), number(node, "weights_age_s", 1),
            style=style,
        )  # fmt: skip
    return found


def nodes_line(nodes: Sequence[Mapping[str, Any]]) -> str:
    """The same as one line of text."""
    return "  ".join(
        f"{node['name']} {'' if node['answers'] else 'is away, '}"
        f"unacknowledged {number(node, 'unacknowledged', 0)}, "
        f"weights {number(node, 'weights_age_s', 1)} s old"
        if "port" in node
        else f"{node['name']} {'answers' if node['answers'] else 'is away'}"
        for node in nodes
    )


def _shares(row: dict[str, float]) -> tuple[str, str]:
    """Of the rows in the batches: the network's and the expert's."""
    dqn = row.get("batch_frac_dqn", math.nan)
    both = {"dqn": dqn, "expert": 1 - dqn}
    return percent(both, "dqn"), percent(both, "expert")


def number(row: Mapping[str, float], name: str, digits: int) -> str:
    """A metric with so many digits; a dash where there is none yet."""
    value = row.get(name)
    return "–" if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def percent(row: dict[str, float], name: str) -> str:
    """A fraction as a percentage; a dash where there is none yet."""
    value = row.get(name, math.nan)
    return "–" if math.isnan(value) else f"{value:.1%}"
