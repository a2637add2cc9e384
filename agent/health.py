"""Health checks of learning: NaN and infinity, values that drift, dead heads. Pure.

The learner counts on the device (agent.diagnostics) and says what its heads do (`Learner.heads`);
here is what that means. Nothing in this module waits for a device.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch

from agent.finding import Finding
from agent.heads import HeadNumbers
from config.models import ImitationConfig, LearnerConfig

LASTING = 1000
"""Updates for which a fault must last before it is reported: the outputs of a new network mean
nothing, and one batch is no evidence."""

FLAT = 1e-6
"""A spread below this share of the largest output is the rounding of float32."""

GROWTH_EVERY = 1000
"""Updates between two looks at how the values have grown."""

GROWTH = 1.5
GROWTHS = 5
"""Values that have grown by the factor, so many times in a row, grow without bound: those that go
towards what the rewards give grow by less and less."""


def not_finite(state: Any) -> list[str]:
    """Where a state (nested dicts and lists of tensors and plain values) holds a number that is
    NaN or infinite: names such as `learner.network.heads.weight`, in order."""
    return list(_bad(state, ""))


def _bad(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() and not bool(value.isfinite().all()):
            yield name
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _bad(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _bad(inner, f"{name}[{number}]")


def value_bound(
    reward_max: float, scale: float, learner: LearnerConfig, imitation: ImitationConfig
) -> float:
    """The largest |Q| that rewards of at most `reward_max` by magnitude can add up to.

    A return is at most `sum over k of gamma^k reward_max = reward_max / (1 - gamma)`, and so is an
    n-step target, whatever n: `reward_max (1 - gamma^n) / (1 - gamma) + gamma^n bound = bound`.
    On top come what moves Q besides rewards, the margin of cloning, and `huber_delta`, below which
    the loss takes an error for noise; both are in units of `scale` (agent.value_scale). NaN where
    gamma is 1: rewards set no bound then.
    """
    if learner.gamma >= 1:
        return math.nan
    return reward_max / (1 - learner.gamma) + scale * (imitation.margin + learner.huber_delta)


BEYOND, GROWING, DEAD = "values_beyond_bound", "values_growing", "head_dead"
"""Ids of what is found here; that of a head has its name behind it."""


class ValueWatch:
    """Watches the largest |Q|: whether it exceeds what rewards can add up to, and whether it grows
    without bound."""

    def __init__(self, lasting: int = LASTING, growth_every: int = GROWTH_EVERY) -> None:
        """`lasting`, `growth_every`: updates."""
        self._lasting, self._every = lasting, growth_every
        self._beyond_since: int | None = None
        self._levels: deque[float] = deque(maxlen=GROWTHS + 1)
        self._next = growth_every
        self._found: list[Finding] = []

    @property
    def drifting(self) -> bool:
        """Something was found at the last look."""
        return bool(self._found)

    def look(self, updates: int, q_max: float, bound: float) -> list[Finding]:
        """What holds after so many updates. `q_max`: the largest |Q| since the last look, NaN
        without any: then what held before holds on. `bound`: of `value_bound`; NaN where there is
        none."""
        if math.isnan(q_max):
            return self._found
        growing = [one for one in self._found if one.id == GROWING]
        self._found = []
        if q_max > bound:
            since = self._beyond_since = (
                updates if self._beyond_since is None else self._beyond_since
            )
            if updates - since >= self._lasting:
                self._found.append(
                    Finding(
                        BEYOND,
                        f"values drift: Q is up to {q_max:.3g}, but the rewards so far can add up "
                        f"to {bound:.3g} at most",
                        "lower learner.learning_rate or learner.gamma, or let the target network "
                        "follow more slowly",
                    )
                )
        else:
            self._beyond_since = None
        if updates >= self._next:
            self._next = updates + self._every
            self._levels.append(q_max)
            growing = [self._growth(q_max)] if self._growing() else []
        self._found += growing
        return self._found

    def _growth(self, q_max: float) -> Finding:
        return Finding(
            GROWING,
            f"values drift: the largest Q has grown from {self._levels[0]:.3g} to {q_max:.3g} and "
            "keeps growing",
            "check whether rewards grow, and lower learner.learning_rate, or let the target "
            "network follow more slowly",
        )

    def rolled_back(self, updates: int) -> None:
        """The learner is another one from now on, after so many updates."""
        self._beyond_since, self._next = None, updates + self._every
        self._levels.clear()
        self._found = []

    def _growing(self) -> bool:
        levels = list(self._levels)
        return len(levels) > GROWTHS and all(
            after >= GROWTH * before > 0 for before, after in pairwise(levels)
        )


_SAME = "it has chosen the same action whatever it was shown"
_SAME_CURE = "leave it where one action is always the best in this game; else "
_CURE = "resume from a checkpoint from before, with a lower learner.learning_rate"


class HeadWatch:
    """Watches for heads that are dead: whose output does not depend on what is seen, that nothing
    is learnt by, or that choose the same whatever they see."""

    def __init__(self, lasting: int = LASTING) -> None:
        """`lasting`: updates."""
        self._lasting = lasting
        self._since: dict[str, int] = {}
        self.found: list[Finding] = []
        """At the last look: one for each dead head."""

    def look(self, updates: int, heads: Iterable[HeadNumbers]) -> list[Finding]:
        """What holds after so many updates."""
        found = self.found = []
        for head in heads:
            fault = _fault(head)
            if fault is None:
                self._since.pop(head.name, None)
                continue
            since = self._since.setdefault(head.name, updates)
            if updates - since >= self._lasting:
                found.append(
                    Finding(
                        f"{DEAD}_{head.name}",
                        f"the head {head.name!r} is dead: for {updates - since:,} updates {fault}",
                        _SAME_CURE + _CURE if fault == _SAME else _CURE,
                    )
                )
        return found

    def rolled_back(self) -> None:
        """The learner is another one from now on."""
        self._since.clear()
        self.found = []


def _fault(head: HeadNumbers) -> str | None:
    """What is wrong with a head, if anything. A network of NaN is no dead head but a bad update."""
    if math.isnan(head.spread):
        return None
    if head.spread <= FLAT:
        return "its output has been the same whatever it was shown"
    if head.gradient == 0:
        return "it has had no gradient"
    if head.share == 1:
        return _SAME
    return None
