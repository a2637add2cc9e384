"""Small comparisons, and results of them that nobody had to wait for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.study.checks import Check
from lab.study.design import Comparison, Job, Picture, Scene, jobs
from lab.study.results import Results, Run
from lab.study.store import Writer, path_of
from lab.sync_trainer import EvaluationPoint

SCENE = Scene("land", "Landing", "LunarLander-v3", weaken=0.3)
TINY: dict[str, Any] = {
    "learner.hidden": (8,),
    "learner.batch_size": 8,
    "trainer.min_steps": 20,
    "trainer.replay_ratio": 0.25,
}


def comparison(*checks: Check, **changed: Any) -> Comparison:
    """One scene, two variants."""
    given: dict[str, Any] = {
        "name": "tiny",
        "title": "A tiny comparison",
        "why": "To see.",
        "scenes": (SCENE,),
        "variants": {"a": {}, "b": {"learner.n_step": 5}},
        "settings": TINY,
        "frames": 60,
        "eval_every": 30,
        "eval_episodes": 2,
        "final_episodes": 4,
        "clients": 3,
        "seeds": 2,
        "checks": checks,
        "pictures": (Picture("return", "evaluation return"),),
    }
    return Comparison(**(given | changed))


def evaluations(
    means: Sequence[float], every: int = 1000, metrics: Mapping[str, Sequence[float]] | None = None
) -> tuple[EvaluationPoint, ...]:
    """Evaluations of two episodes each whose returns have these means."""
    return tuple(
        EvaluationPoint(
            (i + 1) * every,
            (mean - 1, mean + 1),
            10.0 * (i + 1),
            {name: values[i] for name, values in (metrics or {}).items()},
        )
        for i, mean in enumerate(means)
    )


def run(
    seed: int, means: Sequence[float], metrics: Mapping[str, Sequence[float]] | None = None
) -> Run:
    """A run with an evaluation every 1,000 frames."""
    made = {"revision": "abc", "cores": 2, "cpu": "a processor", "python": "3", "torch": "2"}
    return Run(seed, evaluations(means, metrics=metrics), made)


def results(
    a: Sequence[Sequence[float]],
    b: Sequence[Sequence[float]] = (),
    *,
    expert: float = math.nan,
    metrics: Mapping[str, Sequence[float]] | None = None,
    seeds: int | None = None,
) -> Results:
    """The curves of the variants `a` and `b`, a curve for each seed."""
    runs = {
        ("land", name): [run(i + 1, curve, metrics) for i, curve in enumerate(curves)]
        for name, curves in (("a", a), ("b", b))
        if curves
    }
    experts = {} if math.isnan(expert) else {"land": [expert - 5, expert + 5]}
    return Results(2, len(a) if seeds is None else seeds, runs, experts)


def write(folder: Path, what: Comparison, curves: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Write files of complete runs: a curve for each variant and seed; "" is the expert."""
    for job in jobs(what):
        curve = curves[job.variant][max(job.seed - 1, 0)]
        write_one(folder, job, curve)


def write_one(folder: Path, job: Job, curve: Sequence[float]) -> None:
    """Write the file of one run."""
    writer = Writer(path_of(folder, job), job, run(1, [0]).made)
    for evaluation in evaluations(curve):
        writer.add(evaluation)
    writer.complete()
