"""Rollback: return to the last good checkpoint when training has diverged."""

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
    """Training cannot continue by itself; the message says why and what to do."""


class Rollback:
    """Decides whether to return to a checkpoint, and does it."""

    def __init__(self, settings: HealthConfig, folder: Path, spec: str) -> None:
        """`folder`: of the checkpoints. `spec`: the game as text."""
        self._settings = settings
        self._folder = folder
        self._spec = spec
        self.times = 0
        """Rollbacks so far."""

    def wanted(self, skipped_in_a_row: float) -> bool:
        """Whether this many consecutive skipped updates are too many."""
        return skipped_in_a_row >= self._settings.max_consecutive_skips

    def roll_back(self, learner: Learner, first: Callable[[], dict[str, Any]]) -> None:
        """Load the last good checkpoint into the learner and lower its learning rate; checkpoints
        saved after it are set aside. Without a good checkpoint the learner starts again from the
        state that `first` returns.

        Errors: NumbersWentBad where rollbacks are disabled, or there were too many.
        """
        settings, updates = self._settings, learner.updates
        bad = (
            f"{settings.max_consecutive_skips} or more updates in a row, up to update {updates:,}, "
            "had a loss or a gradient that is not finite; they were skipped"
        )
        if settings.on_divergence == "stop":
            raise NumbersWentBad(f"{bad}. Training stopped (health.on_divergence is stop); {_CURE}")
        if self.times >= settings.max_rollbacks:
            raise NumbersWentBad(
                f"{bad}. Training stopped after {self.times} rollbacks (health.max_rollbacks); "
                f"{_CURE}"
            )
        self.times += 1
        factor = learner.rate_factor * settings.lr_factor
        source = self._load(learner)
        if source is None:
            learner.load_state_dict(first())
        learner.rate_factor = factor
        checkpoint.roll_back(self._folder, learner.updates, source)
        log.error(
            "%s. Training continues from %s with %.3g of learner.learning_rate; %s",
            bad, source or "the initial weights, since no checkpoint is good", factor, _CURE,
        )  # fmt: skip

    def _load(self, learner: Learner) -> Path | None:
        """Load the newest good checkpoint; its path, or None if there is none."""
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
