"""What a study found: as plain data, as a table for a terminal, and as a page with pictures.

The page is `results.md` with a folder of pictures beside it. Every comparison has a section between
two marks, which is written anew from its results; the section of a comparison without results
stays as it is. Everything that it says of results is computed from them.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lab.study.checks import Verdict, overall, when
from lab.study.design import NO_EXPERT, Comparison, Scene
from lab.study.results import Results, Run
from lab.study.statistics import Estimate, estimate, pooled, show, text

PAGE = "results.md"
PICTURES = "results"

INTRODUCTION = """\
# Results

How well the student learns. `understudy study` plays the comparisons below, and computes every
number, verdict and picture of this page from the runs (`scripts/study --report`).

A run is one student from scratch. It is evaluated at intervals, alone and without exploration, on
episodes that always start from the same seeds; the last evaluation and the expert's have more of
them, 100 where nothing else is said. A run depends only on its settings and its seed: on the same
machine, with the same versions, it is the same to the last bit.

Numbers are interquartile means over the runs (the middle half of them) with 95 % bootstrap
intervals, as Agarwal et al. 2021 recommend for few runs. Bands in the pictures are the same
intervals. Each verdict says whether it is about the interquartile mean or about every seed. "never"
means that a run did not get there.

Sections that are not comparisons are written by hand, between marks of their own, and stay as they
are.
"""


@dataclass(frozen=True)
class Entry:
    """A variant in a scene."""

    variant: str
    runs: int
    final: Estimate
    """Return of the last evaluation."""
    overall: Estimate
    """Mean return of all evaluations: how soon, how well and how steadily it learnt."""
    passing: Estimate | None
    """Frames until the evaluation return first exceeded `Comparison.passing`."""
    metrics: dict[str, Estimate | None]
    """Means over the training; None where a run has none."""
    seconds: float
    """Of a run, on average."""


def entries(comparison: Comparison, scene: Scene, results: Results) -> list[Entry]:
    """A scene's variants that have complete runs."""
    found = []
    for variant in comparison.of(scene):
        runs, episodes = results.of(scene.name, variant), results.episodes
        if not runs:
            continue
        passing = None
        if (level := comparison.passing) is not None:
            passing = estimate([when(run, level, episodes, "frames") for run in runs])
        found.append(
            Entry(
                variant,
                len(runs),
                estimate([run.final for run in runs]),
                estimate([overall(run, episodes) for run in runs]),
                passing,
                {name: _metric(runs, name) for name in comparison.metrics},
                statistics.fmean(run.seconds for run in runs),
            )
        )
    return found


def verdicts(comparison: Comparison, results: Results) -> list[Verdict]:
    """What is said of each of a comparison's expectations; of scenes that were not played at all
    nothing."""
    played = {scene.name for scene in _played(comparison, results)}
    return [
        check.judge(results)
        for check in comparison.checks
        if not check.scene or check.scene in played or not played
    ]


def as_data(comparison: Comparison, results: Results) -> dict[str, Any]:
    """All of it as plain data for JSON; infinity as "never"."""
    scenes = {
        scene.name: {
            "expert": _plain(results.expert(scene.name)),
            "variants": [_plain(asdict(entry)) for entry in entries(comparison, scene, results)],
        }
        for scene in comparison.scenes
    }
    judged = [
        asdict(verdict) | {"verdict": verdict.word} for verdict in verdicts(comparison, results)
    ]
    return {"comparison": comparison.name, "scenes": scenes, "verdicts": judged}


def print_tables(console: Console, comparison: Comparison, results: Results) -> None:
    """Show it in a terminal."""
    for scene in comparison.scenes:
        found = entries(comparison, scene, results)
        if not found:
            continue
        head, *rows = _table(comparison, scene, results, found)
        table = Table(title=f"{comparison.name}: {scene.title}", title_justify="left")
        for i, name in enumerate(head):
            table.add_column(name, justify="right" if i else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for verdict in verdicts(comparison, results):
        console.print(
            f"{verdict.target}. Measured: {verdict.measured}: {verdict.word}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def write(
    docs: Path, found: Sequence[tuple[Comparison, Results, str]], order: Sequence[str]
) -> list[Path]:
    """Write the page: (comparison, results, the command that made them) each, sections in
    `order`. Returns what was written."""
    from lab.study.plots import draw  # takes a package that only this needs

    page = docs / PAGE
    sections = _sections(page.read_text(encoding="utf-8")) if page.exists() else {}
    written = []
    for comparison, results, command in found:
        if results.runs:
            for picture in comparison.pictures:
                for scene in _played(comparison, results):
                    path = docs / PICTURES / _picture_name(comparison, scene, picture.name)
                    draw(comparison, picture, scene, results, path)
                    written.append(path)
            sections[comparison.name] = section(comparison, results, command)
    names = [name for name in order if name in sections]
    names += [name for name in sections if name not in order]
    body = [INTRODUCTION]
    body += ["\n".join(_contents(sections[name]) for name in names) + "\n"]
    body += [f"{_mark(name)}\n{sections[name].strip()}\n{_END}\n" for name in names]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(body), encoding="utf-8")
    return [*written, page]


def section(comparison: Comparison, results: Results, command: str) -> str:
    """A comparison's part of the page."""
    parts = [f"## {comparison.title}\n", comparison.why.strip() + "\n"]
    if comparison.checks:
        parts += [
            "| expected | measured | |",
            "|---|---|---|",
            *(
                f"| {v.target} | {v.measured} | **{v.word}** |"
                for v in verdicts(comparison, results)
            ),
            "",
        ]
    played = _played(comparison, results)
    if len(played) > 1:
        parts += [*_markdown(_summary(comparison, played, results)), ""]
    for scene in played:
        found = entries(comparison, scene, results)
        parts += [f"### {scene.title}\n" if len(played) > 1 else ""]
        parts += [*_markdown(_table(comparison, scene, results, found)), ""]
        for picture in comparison.pictures:
            name = _picture_name(comparison, scene, picture.name)
            parts += [
                f"![{scene.title}: {picture.title}]({PICTURES}/{name})\n",
                f"`{command}`\n",
            ]
    if absent := [scene.name for scene in comparison.scenes if scene not in played]:
        parts.append(f"Not played: {', '.join(absent)}.\n")
    parts.append(_made(results))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts))


def _played(comparison: Comparison, results: Results) -> list[Scene]:
    """The scenes that have runs of their own. Those without a teacher are shared by the scenes of a
    game."""
    there = {
        scene for scene, variant in results.runs if comparison.experts.get(variant) != NO_EXPERT
    }
    return [scene for scene in comparison.scenes if scene.name in there]


def _metric(runs: Sequence[Run], name: str) -> Estimate | None:
    means = []
    for run in runs:
        known = [value for value in run.metric(name) if not math.isnan(value)]
        if not known:
            return None
        means.append(statistics.fmean(known))
    return estimate(means)


def _table(
    comparison: Comparison, scene: Scene, results: Results, found: Sequence[Entry]
) -> list[list[str]]:
    """A scene's entries as cells, with a head."""
    head = ["", "runs", "return at the end", "mean of all evaluations"]
    if comparison.passing is not None:
        head.append(f"frames until > {comparison.passing:g}")
    head += [f"`{name}`" for name in comparison.metrics] + ["seconds a run"]
    expert = results.expert(scene.name)
    rows = [head, ["the expert alone", "", text(expert), *[""] * (len(head) - 3)]]
    for entry in found:
        row = [entry.variant, str(entry.runs), show(entry.final), show(entry.overall)]
        if entry.passing is not None:
            row.append(show(entry.passing))
        row += [_small(entry.metrics[name]) for name in comparison.metrics]
        rows.append([*row, text(entry.seconds)])
    return rows


def _summary(comparison: Comparison, played: Sequence[Scene], results: Results) -> list[list[str]]:
    """The return at the end of every variant in every scene, and of all scenes together where a
    variant is played in all."""
    together = ["all together"] if comparison.one_scale else []
    rows = [["return at the end", *(scene.name for scene in played), *together]]
    experts = [text(results.expert(scene.name)) for scene in played]
    rows.append(["the expert alone", *experts, *("" for _ in together)])
    for variant in comparison.variants:
        strata = [[run.final for run in results.of(scene.name, variant)] for scene in played]
        cells = [show(estimate(finals)) if finals else "" for finals in strata]
        if any(cells):
            pool = show(pooled(strata)) if together and all(strata) else ""
            rows.append([variant, *cells, *(pool for _ in together)])
    return rows


def _small(found: Estimate | None) -> str:
    return "–" if found is None else show(found, 2)


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *rest = rows
    rule = "|---" + "|---:" * (len(head) - 1) + "|"
    return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rest)]


def _made(results: Results) -> str:
    """With what and on what the runs were made."""
    runs = [run for each in results.runs.values() for run in each]
    revisions = sorted({str(run.made.get("revision")) for run in runs})
    machines = sorted({_machine(run.made) for run in runs})
    hours = sum(run.seconds for run in runs) / 3600
    return (
        f"{len(runs)} runs, {hours:.1f} hours of one core. Revision {', '.join(revisions)}; "
        f"{'; '.join(machines)}.\n"
    )


def _machine(made: Mapping[str, Any]) -> str:
    return (
        f"{made.get('cores')} cores of {made.get('cpu')}, Python {made.get('python')}, "
        f"torch {made.get('torch')}"
    )


def _picture_name(comparison: Comparison, scene: Scene, picture: str) -> str:
    return f"{comparison.name}-{scene.name}-{picture}.png"


_END = "<!-- end -->"


def _mark(name: str) -> str:
    return f"<!-- comparison {name} -->"


def _sections(page: str) -> dict[str, str]:
    """The sections of a page, by comparison."""
    found = re.findall(rf"<!-- comparison (\S+) -->\n(.*?)\n{_END}", page, re.DOTALL)
    return dict(found)


def _contents(section: str) -> str:
    """A line that leads to a section and counts its verdicts."""
    title = section.split("\n", 1)[0].removeprefix("## ")
    anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    words = re.findall(r"\| \*\*(.+)\*\* \|$", section, re.MULTILINE)
    counted = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    return f"- [{title}](#{anchor})" + (f": {counted}" if words else "")


def _plain(value: Any) -> Any:
    """Infinity and NaN have no JSON."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "never"
    return value
