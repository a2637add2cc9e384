"""Comparisons of teachers: how well and how soon a student learns beside a good and a weak one."""

from __future__ import annotations

from lab.study.checks import Ends, Passes
from lab.study.comparisons.shared import (
    ACTORS,
    AS_KEPT,
    EARLIER,
    FULL_DISCRETE,
    FULL_HYBRID,
    PRESET,
    RETURN,
    WEAK_DISCRETE,
    WEAK_HYBRID,
    WEAKER_DISCRETE,
)
from lab.study.design import Comparison

TEACHER = Comparison(
    "teacher",
    "A good teacher",
    """\
Gymnasium's heuristic teaches. Stable-Baselines3's tuned DQN, which has no teacher, takes 60,000 to
80,000 frames until it exceeds 200.""",
    scenes=(FULL_DISCRETE,),
    variants={"understudy": {}},
    settings=EARLIER,
    frames=30_000,
    preset=PRESET,
    seeds=5,
    passing=200,
    checks=(
        Passes("discrete", "understudy", 200, by=12_000),
        Ends("discrete", "understudy", None),
    ),
    pictures=(RETURN, ACTORS),
)

WEAK_TEACHER = Comparison(
    "weak-teacher",
    "A weak teacher",
    """\
Of the expert's actions, 30 % are replaced by random ones. What it shows is bad play, and the
student has to find out which of it was good.""",
    scenes=(WEAK_DISCRETE,),
    variants={"understudy": {}},
    settings=EARLIER,
    frames=40_000,
    preset=PRESET,
    seeds=5,
    passing=200,
    checks=(Passes("weak-discrete", "understudy", 200, by=40_000, every_seed=True),),
    pictures=(RETURN, ACTORS),
)

WEAKER_TEACHER = Comparison(
    "weaker-teacher",
    "A teacher that is hardly one",
    """\
Of the expert's actions, 70 % are replaced by random ones.""",
    scenes=(WEAKER_DISCRETE,),
    variants={"understudy": {}},
    settings=EARLIER,
    frames=80_000,
    preset=PRESET,
    seeds=5,
    passing=200,
    checks=(Passes("weaker-discrete", "understudy", 200, by=80_000, every_seed=True),),
    pictures=(RETURN, ACTORS),
)

HYBRID_TEACHER = Comparison(
    "hybrid",
    "Discrete and continuous at once, a good teacher",
    """\
The game of the demo: the main engine is a choice, the lateral engine a number.""",
    scenes=(FULL_HYBRID,),
    variants={"understudy": {}},
    settings=AS_KEPT,
    frames=30_000,
    preset=PRESET,
    seeds=5,
    passing=240,
    checks=(Ends("hybrid", "understudy", None, less=10),),
    pictures=(RETURN, ACTORS),
)

HYBRID_WEAK = Comparison(
    "hybrid-weak",
    "Discrete and continuous at once, a weak teacher",
    """\
As before, with 30 % of the expert's actions replaced by random ones.""",
    scenes=(WEAK_HYBRID,),
    variants={"understudy": {}},
    settings=AS_KEPT,
    frames=30_000,
    preset=PRESET,
    seeds=5,
    passing=240,
    checks=(Passes("weak-hybrid", "understudy", 240, by=30_000, every_seed=True),),
    pictures=(RETURN, ACTORS),
)
