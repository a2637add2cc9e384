"""Comparisons of the advantage weights: modes and signals, alone and beside cloning."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

from lab.study.checks import Better, Check, Trend
from lab.study.comparisons.shared import (
    EARLIER,
    FULL_HYBRID,
    PRESET,
    RETURN,
    WEAK_DISCRETE,
    WEAK_HYBRID,
    Settings,
)
from lab.study.design import Comparison, Picture

MODES = ("per_actor", "global")
SIGNALS = ("reward", "return", "critic")

NO_CLONING: Settings = {"imitation.expert.start": 0.0, "imitation.expert.end": 0.0}
CLONING: Settings = {"imitation.expert.start": 1.0, "imitation.expert.end": 1.0}
"""The expert's choices keep a margin, its continuous actions attract, on the expert's rows."""


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
TD_BY_REWARD = ("td: per_actor, reward", "td: global, reward")


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
            variants=("plain", *CONTINUOUS, *TD_BY_REWARD, "cloning", "expert rows alone"),
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

SIGNALLED = Comparison(
    "signals",
    "What the weights are worth beside cloning",
    """\
The expert is cloned on its own rows, and the continuous heads are regressed towards what either
actor did, by weight. Here is what the weights add to the cloning: none (`off`), or those by
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

TODAY = Comparison(
    "modes",
    "The weights with today's defaults",
    """\
The same question once more with the defaults and nothing else: recommendations of all frames are
cloned as far as the expert is trusted, and values are normalized. Rows are weighted within their
actor (`per_actor`, the default), within the whole batch (`global`), or not at all (`off`).""",
    scenes=(WEAK_HYBRID,),
    variants={mode: {"advantage.mode": mode} for mode in ("per_actor", "global", "off")},
    frames=20_000,
    eval_episodes=10,
    final_episodes=50,
    seeds=3,
    seeds_full=5,
    metrics=("grad_share_dqn", "weight_ess_dqn"),
    checks=(
        Better("weak-hybrid", "per_actor", "global"),
        Better("weak-hybrid", "per_actor", "off"),
    ),
    pictures=(RETURN,),
)
