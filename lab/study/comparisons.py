"""The comparisons that `understudy study` knows, as data.

Settings are written as in a configuration file, by key. What a comparison does not set comes from
its preset, and what that does not set from the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from lab.study.checks import Better, Check, Ends, Passes, Trend
from lab.study.design import Comparison, Picture, Scene

Settings = Mapping[str, Any]

DISCRETE, HYBRID = "LunarLander-v3", "LunarLanderHybrid-v3"

FULL_DISCRETE = Scene("discrete", f"{DISCRETE}, full expert", DISCRETE)
WEAK_DISCRETE = Scene(
    "weak-discrete", f"{DISCRETE}, 30 % of the expert's actions random", DISCRETE, weaken=0.3
)
WEAKER_DISCRETE = Scene(
    "weaker-discrete", f"{DISCRETE}, 70 % of the expert's actions random", DISCRETE, weaken=0.7
)
FULL_HYBRID = Scene("hybrid", f"{HYBRID}, full expert", HYBRID)
WEAK_HYBRID = Scene(
    "weak-hybrid", f"{HYBRID}, 30 % of the expert's actions random", HYBRID, weaken=0.3
)

PRESET = "demo"
"""What the games of LunarLander are learnt with."""

MODES = ("per_actor", "global")
SIGNALS = ("reward", "return", "critic")

NO_CLONING: Settings = {"imitation.expert.start": 0.0, "imitation.expert.end": 0.0}
CLONING: Settings = {"imitation.expert.start": 1.0, "imitation.expert.end": 1.0}
"""The expert's choices keep a margin, its continuous actions attract, on the expert's rows."""


EARLIER: Settings = {
    "advantage.signal": "reward",
    "imitation.decay": "schedule",
    "imitation.rows": "expert",
}
"""What was the default when most runs were made. The signal makes a difference where a head is
continuous, and nowhere else."""


def weighted(loss: str, more: Settings | None = None) -> dict[str, Settings]:
    """A variant for each mode and signal of weights that apply to one loss, `LOSS: MODE, SIGNAL`,
    and `LOSS: unweighted` where `more` is needed to have that loss at all."""
    shared: dict[str, Any] = {**(more or {}), "advantage.applies_to": (loss,)}
    variants: dict[str, Settings] = {
        f"{loss}: {mode}, {signal}": shared | {"advantage.mode": mode, "advantage.signal": signal}
        for mode, signal in product(MODES, SIGNALS)
    }
    if more:
        variants[f"{loss}: unweighted"] = shared | {"advantage.mode": "off"}
    return variants


OFF: Settings = {"advantage.mode": "off"}
CONTINUOUS = weighted("continuous")
TD = weighted("td")
IMITATION = weighted("imitation", {"imitation.taken": 1.0})
CLONED: Settings = {**OFF, **CLONING}
ALONE: Settings = {**CLONED, "learner.continuous_weight": 0.0}
TD_EARLIER = ("td: per_actor, reward", "td: global, reward")


def _claims(scene: str, variant: str) -> tuple[Check, ...]:
    """What the design claims of per-actor weights: the student comes to understand its own play,
    to value it, and to earn more."""
    return (
        Trend(scene, variant, "td_err_mean_dqn", rises=False),
        Trend(scene, variant, "q_mean_dqn", rises=True),
        Trend(scene, variant, "reward_mean_dqn", rises=True),
    )


PER_ACTOR = "continuous: per_actor, reward"

WEIGHTING = Comparison(
    "weighting",
    "What the advantage weights are worth",
    """\
Weights by the reward of the step (`reward`), by its n-step return (`return`) or by what the critic
thinks of the action (`critic`); compared with the same actor (`per_actor`) or with the whole batch
(`global`); on the regression of the continuous heads (`continuous`), on the imitation of the
actions taken on discrete heads (`imitation`), or on the TD loss (`td`). Nothing is cloned, so that
the weights have to do it all. `plain` has no weights and no imitation. To compare: `cloning` has no
weights but clones the expert on the expert's rows, and `expert rows alone` does that and regresses
to nobody else's. `grad_share_dqn` is the part of the gradient that comes from the student's own
frames.""",
    scenes=(
        replace(WEAK_DISCRETE, variants=("plain", *TD, *IMITATION, "cloning")),
        replace(
            WEAK_HYBRID,
            variants=("plain", *CONTINUOUS, *TD_EARLIER, "cloning", "expert rows alone"),
        ),
        replace(FULL_HYBRID, variants=("plain", *CONTINUOUS, "cloning", "expert rows alone")),
    ),
    variants={
        "plain": OFF,
        **CONTINUOUS,
        **IMITATION,
        **TD,
        "cloning": CLONED,
        "expert rows alone": ALONE,
    },
    settings={**EARLIER, **NO_CLONING},
    frames=20_000,
    preset=PRESET,
    seeds=3,
    metrics=("grad_share_dqn", "weight_ess_dqn"),
    checks=(
        *_claims("weak-hybrid", PER_ACTOR),
        Better("weak-hybrid", PER_ACTOR, "continuous: global, reward"),
        Better("weak-hybrid", PER_ACTOR, "plain"),
        Better("weak-hybrid", PER_ACTOR, "cloning"),
        Better("weak-hybrid", PER_ACTOR, "expert rows alone"),
        Better("weak-discrete", "plain", "td: per_actor, reward"),
        Better("weak-discrete", "plain", "td: global, reward"),
    ),
    pictures=(
        Picture(
            "return",
            "evaluation return",
            panels={
                "weights on the continuous heads": ("plain", *CONTINUOUS),
                "weights on imitation": ("plain", *IMITATION),
                "weights on the TD loss": ("plain", *TD),
                "cloning": ("plain", "cloning", "expert rows alone"),
            },
        ),
        Picture(
            "actors",
            "each actor's rows",
            panels={
                "": (
                    "plain",
                    PER_ACTOR,
                    "continuous: global, reward",
                    "imitation: per_actor, critic",
                    "td: per_actor, reward",
                    "td: global, reward",
                ),
            },
            metrics=("td_err_mean", "q_mean", "reward_mean", "grad_share"),
        ),
    ),
)

ACTORS = Picture("actors", "each actor's rows", metrics=("td_err_mean", "q_mean", "reward_mean"))
RETURN = Picture("return", "evaluation return")

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
    frames=30_000,
    preset=PRESET,
    seeds=5,
    passing=240,
    checks=(Passes("weak-hybrid", "understudy", 240, by=30_000, every_seed=True),),
    pictures=(RETURN, ACTORS),
)

SIGNALLED = Comparison(
    "signals",
    "What the weights are worth beside cloning",
    """\
The default clones the expert on the expert's rows, and regresses the continuous heads towards what
either actor did, by weight. Here is what the weights add to the cloning: none (`off`), or those by
reward, by n-step return, or by what the critic thinks, each compared with the same actor; and those
by reward, compared with the whole batch (`reward, global`).""",
    scenes=(WEAK_HYBRID, FULL_HYBRID),
    variants={
        "off": OFF,
        **{signal: {"advantage.signal": signal} for signal in SIGNALS},
        "reward, global": {"advantage.mode": "global"},
    },
    settings=EARLIER,
    frames=20_000,
    preset=PRESET,
    seeds=5,
    metrics=("grad_share_dqn", "weight_ess_dqn"),
    checks=(
        Better("weak-hybrid", "reward", "off"),
        Better("weak-hybrid", "reward", "reward, global"),
        Better("weak-hybrid", "critic", "off"),
        Better("weak-hybrid", "critic", "reward"),
    ),
    pictures=(RETURN,),
)

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
    settings=EARLIER,
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

COMPARISONS = (
    TEACHER,
    WEAK_TEACHER,
    WEAKER_TEACHER,
    HYBRID_TEACHER,
    HYBRID_WEAK,
    WEIGHTING,
    SIGNALLED,
    UNITS,
    VALUES,
    PONG,
)
"""All comparisons, in the order of the page."""
