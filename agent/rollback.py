"""Back to the last good checkpoint when the numbers of training have gone bad."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent import checkpoint
from agent.checkpoint import CheckpointError
from agent.learner import Learner
from config.models import HealthConfig

log = logging.getLogger("trainer")


class NumbersWentBad(RuntimeError):
    """Training cannot go on by itself; the message says why and what to do."""


class Rollback:
    """Decides whether to go back, and does."""

    def __init__(self, settings: HealthConfig, folder: Path, spec: str) -> None:
        """`folder`: of the checkpoints. `spec`: the game as text."""
        self._settings = settings
        self._folder = folder
        self._spec = spec
        self.times = 0
        """How often it went back."""

    def wanted(self, skipped_in_a_row: float) -> bool:
        """Whether so many skipped updates in a row are too many."""
        return skipped_in_a_row >= self._settings.max_consecutive_skips

    def go_back(self, learner: Learner, first: Callable[[], dict[str, Any]]) -> None:
        """Give the learner the last good checkpoint and a lower learning rate; what was saved after
        it is put away. Without a checkpoint it begins again, with the state that `first` makes.

        Errors: NumbersWentBad where it is not to go back, or has too often.
        """
        settings, updates = self._settings, learner.updates
        bad = (
            f"{settings.max_consecutive_skips} or more updates in a row, up to update {updates:,}, "
            "had a loss or a gradient that is not finite; they were skipped"
        )
        if settings.on_divergence == "stop":
            raise NumbersWentBad(f"{bad}. Training stops, as health.on_divergence says; {_CURE}")
        if self.times >= settings.max_rollbacks:
            raise NumbersWentBad(
                f"{bad}. That was so after going back {self.times} times (health.max_rollbacks), "
                f"so training stops; {_CURE}"
            )
        self.times += 1
        factor = learner.rate_factor * settings.lr_factor
        source = self._load(learner)
        if source is None:
            learner.load_state_dict(first())
        learner.rate_factor = factor
        checkpoint.go_back(self._folder, learner.updates, source)
        log.error(
            "%s. Training goes on from %s with %.3g of learner.learning_rate; %s",
            bad, source or "the first weights, for there is no good checkpoint", factor, _CURE,
        )  # fmt: skip

    def _load(self, learner: Learner) -> Path | None:
        """Load the newest checkpoint that is good; where that is, if there is one."""
        best = checkpoint.best(self._folder)
        newest = reversed(checkpoint.checkpoints(self._folder))
        for path in [*newest, *([best] if best else [])]:
            try:
                state = checkpoint.load(path, spec=self._spec)
                learner.load_state_dict(state["learner"])
            except CheckpointError as error:
                log.warning("%s", error)
            else:
                return path
        return None


_CURE = "look at the rewards and observations of the games, and lower learner.learning_rate"
