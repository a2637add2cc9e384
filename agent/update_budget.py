"""The update budget: how many updates are due, and how many rows may enter before them."""

from __future__ import annotations

import math

from agent.learner import Learner
from agent.replay import Replay
from config.models import TrainerConfig


def updates_due(settings: TrainerConfig, stored: int, made: int) -> int:
    """Updates that are due after `stored` steps and `made` updates."""
    over = stored - settings.min_steps
    return int(over * settings.replay_ratio) - made if over >= 0 else 0


class UpdateBudget:
    """Counts the updates that the replay ratio makes due. `stored` is always the number of steps
    stored since this start of the server."""

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
        self._not_owed = not_owed
        self._pretrain = pretrain_updates
        self._first_update = learner.updates
        self.paused = False
        self._owed = 0
        """Updates that were due when it was paused."""
        self._forgiven = 0
        """Updates that became due while it was paused, and are not made."""

    def due(self, stored: int) -> int:
        """Updates that the replay ratio allows and that have not been made. None while there is
        nothing to learn from: as long as that is so, games must not be made to wait for it."""
        if self._pretrain:
            return self._first_update + self._pretrain - self._learner.updates
        if not self._settings.enabled or self.paused or not self._replay.can_sample:
            return 0
        made = self._learner.updates - self._first_update
        return updates_due(self._settings, stored - self._not_owed, made + self._forgiven)

    def room(self, stored: int) -> int | None:
        """Rows that may be taken in before more updates are due than the configuration allows;
        None if it sets no limit."""
        limit = self._settings.max_lag_updates
        if limit is None:
            return None
        # Rounded up: a single step may bring more updates than the limit, and must come in.
        return max(0, math.ceil((limit - self.due(stored)) / self._settings.replay_ratio))

    def pause(self, on: bool, stored: int) -> None:
        """Pause or resume training. Steps stored meanwhile make no update due: otherwise games
        would have to wait, or a day's updates would be made at once."""
        if on == self.paused:
            return
        if on:
            self._owed, self.paused = self.due(stored), True
        else:
            self.paused = False
            self._forgiven += self.due(stored) - self._owed

    def rolled_back(self, updates: int) -> None:
        """The learner was rolled back: `updates` is the change of its count, below 0. That makes no
        update due."""
        self._first_update += updates
