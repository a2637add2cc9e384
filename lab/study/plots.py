"""Pictures of learning curves. Lines differ in color, dashes and marker, never in color alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lab.study.results import Results, Run
from lab.study.statistics import estimate
from protocol.actor import ACTORS, NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lab.study.design import Comparison, Picture, Scene

COLORS = (
    "#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F",
)  # fmt: skip
"""Okabe and Ito's, which people with any color vision tell apart; with grey for their yellow,
which is faint on white."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), "-.", (0, (1, 1.2)), (0, (8, 2, 1, 2, 1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 3.2,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
}
DPI = 130


@dataclass(frozen=True)
class Curve:
    """A line with its band: [evaluations] each."""

    frames: list[float]
    middle: list[float]
    low: list[float]
    high: list[float]


def draw(
    comparison: Comparison, picture: Picture, scene: Scene, results: Results, path: Path
) -> None:
    """Draw a picture of a scene into a PNG file."""
    with mpl.rc_context(STYLE):
        figure = (
            _metrics(comparison, picture, scene, results)
            if picture.metrics
            else _returns(comparison, picture, scene, results)
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        # No date and no version of matplotlib: the same results make the same file.
        figure.savefig(path, dpi=DPI, metadata={"Software": None})


def return_line(runs: Sequence[Run], episodes: int) -> Curve:
    """The evaluation return of some runs."""
    return _line(runs, [run.returns(episodes) for run in runs])


def metric_line(runs: Sequence[Run], metric: str) -> Curve:
    """A metric of training of some runs."""
    return _line(runs, [run.metric(metric) for run in runs])


def _line(runs: Sequence[Run], curves: list[list[float]]) -> Curve:
    """Interquartile means over runs with their intervals, as far as all runs go."""
    found = Curve([], [], [], [])
    for i in range(min(map(len, curves), default=0)):
        values = [curve[i] for curve in curves]
        if any(math.isnan(value) for value in values):
            continue
        at = estimate(values)
        # Runs that end by the clock have their last evaluation at frames of their own.
        found.frames.append(float(np.mean([run.evaluations[i].frames for run in runs])))
        found.middle.append(at.point)
        found.low.append(at.low)
        found.high.append(at.high)
    return found


def _panels(comparison: Comparison, picture: Picture, scene: Scene) -> Mapping[str, Sequence[str]]:
    """Variants that are played in a scene, by the title of their panel."""
    played = comparison.of(scene)
    panels = picture.panels or {"": played}
    kept = {title: [name for name in names if name in played] for title, names in panels.items()}
    return {title: names for title, names in kept.items() if names}


def _returns(comparison: Comparison, picture: Picture, scene: Scene, results: Results) -> Figure:
    panels = _panels(comparison, picture, scene)
    most = max(map(len, panels.values()))
    height = 3.4 + 0.2 * math.ceil(most / (3 if len(panels) == 1 else 1))
    width = 7.2 if len(panels) == 1 else 3.9 * len(panels)
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(f"{scene.title}", fontsize=11)
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    expert = results.expert(scene.name)
    for axes, (title, names) in zip(grid, panels.items(), strict=True):
        lines = [return_line(results.of(scene.name, name), results.episodes) for name in names]
        # What stands before the colon is what the panel's title says.
        _draw(axes, lines, [name.rpartition(": ")[2] if title else name for name in names])
        if not math.isnan(expert):
            axes.axhline(expert, color="#666666", linestyle="--", linewidth=1.2, zorder=1)
            axes.annotate(
                f"expert {expert:.0f}", (0, expert), xycoords=("axes fraction", "data"),
                xytext=(4, 3), textcoords="offset points", color="#555555", fontsize=8,
            )  # fmt: skip
        axes.set_title(title)
        axes.set_xlabel("frames")
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3 if len(panels) == 1 else 1
        )
    grid[0].set_ylabel(f"mean return of {results.episodes} evaluation episodes")
    _focus(grid[0], expert)
    return figure


def _metrics(comparison: Comparison, picture: Picture, scene: Scene, results: Results) -> Figure:
    (names,) = list(_panels(comparison, picture, scene).values())[:1]
    rows = len(picture.metrics)
    figure = Figure(figsize=(7.6, 2.1 * rows + 0.9), layout="constrained")
    figure.suptitle(f"{scene.title}: {picture.title}", fontsize=11)
    grid = figure.subplots(rows, len(ACTORS), squeeze=False, sharex=True, sharey="row")
    for row, metric in zip(grid, picture.metrics, strict=True):
        for axes, actor in zip(row, ACTORS, strict=True):
            whole = f"{metric}_{NAMES[actor]}"
            _draw(axes, [metric_line(results.of(scene.name, n), whole) for n in names], names)
        row[0].set_ylabel(metric)
    for axes, actor in zip(grid[0], ACTORS, strict=True):
        axes.set_title(f"rows of {NAMES[actor]}")
    for axes in grid[-1]:
        axes.set_xlabel("frames")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _draw(axes: Axes, lines: Sequence[Curve], names: Sequence[str]) -> None:
    for i, (line, name) in enumerate(zip(lines, names, strict=True)):
        if not line.frames:
            continue
        color = COLORS[i % len(COLORS)]
        axes.fill_between(line.frames, line.low, line.high, color=color, alpha=0.15, linewidth=0)
        axes.plot(
            line.frames, line.middle, label=name, color=color,
            linestyle=DASHES[i % len(DASHES)], marker=MARKERS[i % len(MARKERS)],
            markevery=max(1, len(line.frames) // 8),
        )  # fmt: skip
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if x else "0"))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlim(left=0)


def _focus(axes: Axes, expert: float) -> None:
    """Have the lines fill the panel: bands may be cut."""
    middles = [y for line in axes.figure.axes for shown in line.get_lines() for y in _ys(shown)]
    known = [y for y in [*middles, expert] if not math.isnan(y)]
    if len(known) > 1:
        low, high = min(known), max(known)
        margin = 0.08 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)


def _ys(shown: Any) -> list[float]:
    return [float(y) for y in shown.get_ydata()]
