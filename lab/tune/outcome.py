"""What a search has found, for people and for `understudy serve --config`: a file of settings, a
table of all trials."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Console
from rich.table import Table

from agent.files import written_whole
from config.fields import nested
from lab.tune.plan import TunePlan

BEST, TRIALS = "best.toml", "trials.csv"

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
"""How a trial has ended: it played to its end, was worse than most, or could not be played."""


@dataclass(frozen=True)
class TrialResult:
    """A trial that has ended."""

    number: int
    state: str
    score: float
    """`lab.tune.plan.score`; NaN where it is not finished."""
    best: float
    """The largest mean return of an evaluation; NaN without any."""
    frames: int
    """Stored steps up to its last evaluation."""
    seconds: float
    drawn: Mapping[str, Any]
    """Values by the dimension's name."""
    error: str = ""
    """Why it failed."""


def best_of(results: Sequence[TrialResult]) -> TrialResult | None:
    """The finished trial with the largest score."""
    finished = [each for each in results if each.state == FINISHED]
    return max(finished, key=lambda each: each.score, default=None)


def write(folder: Path, plan: TunePlan, results: Sequence[TrialResult]) -> None:
    """Write the table of all trials, and the best one's settings where one is finished."""
    with written_whole(folder / TRIALS) as file:
        file.write(as_csv(results).encode())
    if (best := best_of(results)) is not None:
        with written_whole(folder / BEST) as file:
            file.write(as_toml(plan, best).encode())


def as_toml(plan: TunePlan, result: TrialResult) -> str:
    """The settings to learn as a trial did, as `--config` takes them, and where they are from."""
    runs = f", mean of {plan.seeds} seeds" if plan.seeds > 1 else ""
    about = (
        f"# Trial {result.number} of a search by understudy tune on {plan.options.env}:\n"
        f"# mean evaluation return {result.score:.6g} over the last third of "
        f"{plan.options.frames} frames{runs}.\n"
    )
    return about + tomli_w.dumps(nested(plan.learnt(result.drawn)))


def as_csv(results: Sequence[TrialResult]) -> str:
    """All trials as a table of comma-separated values, a column for each setting."""
    text = io.StringIO()
    names = list(results[0].drawn) if results else []
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "state", "score", "best", "frames", "seconds", *names, "error"])
    for each in results:
        numbers = ["" if math.isnan(x) else repr(x) for x in (each.score, each.best)]
        values = [each.drawn[name] for name in names]
        cells = [each.number, each.state, *numbers, each.frames, f"{each.seconds:.1f}"]
        rows.writerow([*cells, *values, each.error])
    return text.getvalue()


def drawn_text(drawn: Mapping[str, Any]) -> str:
    """Values in one line, with the last parts of their names where these tell them apart."""
    lasts = [name.rpartition(".")[2] for name in drawn]
    return ", ".join(
        f"{name if lasts.count(last) > 1 else last} {_short(value)}"
        for (name, value), last in zip(drawn.items(), lasts, strict=True)
    )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def print_trials(
    console: Console, results: Sequence[TrialResult], importances: Mapping[str, float]
) -> None:
    """All trials, the best first, and which settings made the difference."""
    if not results:
        console.print("no trial has ended yet")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("trial", "score", "best", "frames", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("settings", overflow="fold")
    order = sorted(results, key=_order)
    for each in order:
        numbers = ["" if math.isnan(x) else f"{x:.1f}" for x in (each.score, each.best)]
        cells = [str(each.number), *numbers, str(each.frames), f"{each.seconds:.0f}", each.state]
        table.add_row(*cells, drawn_text(each.drawn))
    console.print(table, highlight=False)
    if importances:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in importances.items())
        console.print(f"what made the difference: {shares}", highlight=False, soft_wrap=True)


def _order(result: TrialResult) -> tuple[bool, float, int]:
    """Finished ones first, by score; then by the best evaluation."""
    value = result.best if math.isnan(result.score) else result.score
    return (result.state != FINISHED, math.inf if math.isnan(value) else -value, result.number)
