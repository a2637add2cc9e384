"""The update budget: how many updates are due, and how many frames may be answered before them."""

from __future__ import annotations

import math

from agent.learner import Learner
from agent.replay import Replay
from config.models import TrainerConfig

NO_LIMIT = 2**62
"""Answered frames that no run reaches."""


def updates_due(settings: TrainerConfig, stored: int, made: int) -> int:
    """Updates that are due after `stored` steps and `made` updates."""
    over = stored - settings.min_steps
    return int(over * settings.replay_ratio) - made if over >= 0 else 0


class UpdateBudget:
    """Counts the updates that the replay ratio makes due.

    Frames are counted since this start of the server: `stored` are steps in the replay, `answered`
    all that were played for training, wherever they lie: `stored`, those in rings, and those whose
    step is not complete.
    """

    def __init__(
        self,
        settings: TrainerConfig,
        replay: Replay,
        learner: Learner,
        not_owed: int,
        pretrain_updates: int,
    ) -> None:
        """`not_owed`: so many of the steps stored make no update due. `pretrain_updates`: if any,
        it is these that are due, whatever is stored."""
        self._settings = settings
        self._replay = replay
        self._learner = learner
        self._pretrain = pretrain_updates
        self._start = not_owed + settings.min_steps
        """Each frame beyond so many makes `replay_ratio` updates due."""
        self._first_update = learner.updates
        """Updates beyond so many are those that pay for them."""
        self.others_can_sample = False
        """Another learner, which makes each update too, has rows to learn from."""
        self.paused = False
        self._owed = 0
        """Updates that were due when it was paused."""

    def due(self, stored: int, answered: int) -> int:
        """Updates to be made now. None while there is nothing to learn from.

        Those that the stored steps make due. Where that many games play that all their open frames
        are beyond the limit, also the updates beyond it: the games wait for these, and so for ever
        where only their next frames could make them due.
        """
        if self._pretrain:
            return self._first_update + self._pretrain - self._learner.updates
        if not self._learns:
            return 0
        limit = self._settings.max_lag_updates
        due = self._balance(stored)
        return due if limit is None else max(due, self._balance(answered) - limit + 1)

    def behind(self, answered: int) -> int:
        """Updates by which training is behind: those that all answered frames make due."""
        if self._pretrain:
            return self.due(answered, answered)
        return max(0, self._balance(answered)) if self._learns else 0

    def allowed(self, seen: int) -> int:
        """Frames that may have been answered before games in lock step wait: with as many, training
        is behind by `max_lag_updates`. NO_LIMIT where that sets no limit, and where nobody learns.

        `seen`: frames answered so far whose steps are stored, where they are complete. As long as
        there is nothing to learn from among these, one more: where that many games play that their
        first frames are beyond the limit, their next ones are needed.
        """
        limit = self._settings.max_lag_updates
        if limit is None or self._pretrain or self.paused or not self._settings.enabled:
            return NO_LIMIT
        made = self._learner.updates - self._first_update
        allowed = self._start + math.ceil((limit + made) / self._settings.replay_ratio)
        # The quotient may be off by its rounding.
        while self._balance(allowed) < limit:
            allowed += 1
        while self._balance(allowed - 1) >= limit:
            allowed -= 1
        return allowed if self._can_sample else max(allowed, seen + 1)

    def begin_behind(self, not_owed: int) -> None:
        """So many of the steps stored make no update due: those of other learners are counted."""
        self._start = not_owed + self._settings.min_steps

    def change(self, settings: TrainerConfig, answered: int) -> None:
        """These settings hold from now on. Frames that were answered before make due what they made
        due: another ratio is no debt and no credit for them."""
        if settings.replay_ratio != self._settings.replay_ratio and answered > self._start:
            self._first_update = self._learner.updates + self._balance(answered)
            self._start = answered
        self._settings = settings

    def pause(self, on: bool, answered: int) -> None:
        """Pause or resume training. Frames answered meanwhile make no update due: otherwise games
        would have to wait, or a day's updates would be made at once."""
        if on == self.paused:
            return
        self.paused = on
        owed = max(0, self._balance(answered))
        if on:
            self._owed = owed
        else:
            self._first_update -= max(0, owed - self._owed)

    def rolled_back(self, updates: int) -> None:
        """The learner was rolled back: `updates` is the change of its count, below 0. That makes no
        update due."""
        self._first_update += updates

    @property
    def _learns(self) -> bool:
        return self._settings.enabled and not self.paused and self._can_sample

    @property
    def _can_sample(self) -> bool:
        return self._replay.can_sample or self.others_can_sample

    def _balance(self, frames: int) -> int:
        """Updates that so many frames make due beyond those that were made; below 0 where more
        were made."""
        due = math.floor((frames - self._start) * self._settings.replay_ratio)
        return due - (self._learner.updates - self._first_update)
