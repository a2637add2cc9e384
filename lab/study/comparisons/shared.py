"""What several comparisons have: the games of LunarLander, settings and pictures.

Settings are written as in a configuration file, by key. What a comparison does not set comes from
its preset, and what that does not set from the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.study.design import Picture, Scene

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

AS_KEPT: Settings = {
    "expert.decay": "schedule",
    "imitation.decay": "schedule",
    "learner.normalize_values": False,
    "learner.hidden": [128, 128],
    "learner.batch_size": 128,
    "trainer.replay_ratio": 1.0,
    "imitation.margin": 0.8,
    "imitation.rows": "expert",
}
"""What was the default, or in the preset, when the kept runs were made."""

EARLIER: Settings = {**AS_KEPT, "advantage.signal": "reward"}
"""The same when most of them were made. The signal makes a difference where a head is continuous,
and nowhere else."""

ACTORS = Picture("actors", "each actor's rows", metrics=("td_err_mean", "q_mean", "reward_mean"))
RETURN = Picture("return", "evaluation return")
