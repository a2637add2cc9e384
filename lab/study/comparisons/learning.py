"""Comparisons of how is learnt: who plays for how long, what is learnt of the return; and Pong."""

from __future__ import annotations

from lab.study.checks import Ends, Passes
from lab.study.comparisons.shared import (
    ACTORS,
    EARLIER,
    PRESET,
    RETURN,
    WEAK_DISCRETE,
    WEAK_HYBRID,
)
from lab.study.design import Comparison, Scene

UNITS = Comparison(
    "units",
    "Who plays for how long",
    """\
Whether expert or network plays is drawn for each frame, for segments of 50 frames, or for whole
episodes (`expert.unit`). Frame by frame, a good step of the one is followed by one of the other,
and what each of them earns differs little.""",
    scenes=(WEAK_DISCRETE, WEAK_HYBRID),
    variants={unit: {"expert.unit": unit} for unit in ("frame", "segment", "episode")},
    settings=EARLIER,
    frames=20_000,
    preset=PRESET,
    seeds=3,
    passing=200,
    pictures=(RETURN, ACTORS),
)

VALUES = Comparison(
    "values",
    "What is learnt of the return, and from which rows",
    """\
Its mean (`scalar`), or its distribution, as probabilities of fixed values (`c51`) or as quantiles
(`quantile`); rows drawn by priority instead of uniformly (`prioritised`); and matrix products in
half the precision (`bfloat16`).""",
    scenes=(WEAK_DISCRETE,),
    variants={
        "scalar": {},
        "c51": {"learner.value": "c51", "learner.value_min": -300.0, "learner.value_max": 300.0},
        "quantile": {"learner.value": "quantile"},
        "prioritised": {"replay.prioritized": True},
        "bfloat16": {"learner.precision": "bfloat16"},
    },
    settings=EARLIER,
    frames=20_000,
    preset=PRESET,
    seeds=3,
    passing=200,
)

PONG = Comparison(
    "pong",
    "Pong",
    """\
The game of the Arcade Learning Environment, seen as eight numbers from its memory. The expert
follows the ball and wins about as many points as it loses. An episode is five points, its return
those won less those lost.""",
    scenes=(Scene("pong", "Pong from RAM", "PongRam-v0"),),
    variants={"understudy": {}},
    settings={**EARLIER, "imitation.margin": 0.05, "trainer.replay_ratio": 0.25},
    frames=400_000,
    eval_every=20_000,
    preset="pong",
    seeds=3,
    passing=1,
    checks=(
        Passes("pong", "understudy", 1, by=3600, unit="seconds", every_seed=True),
        Ends("pong", "understudy", None, less=-1, every_seed=True),
    ),
    pictures=(RETURN, ACTORS),
)
