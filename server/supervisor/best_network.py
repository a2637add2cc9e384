"""The best network: which evaluation is to be its, and when the trainer is asked to write it."""

from __future__ import annotations

import math
import time

from server.ipc.messages import SaveBest, SavedBest
from server.run.evaluation import Evaluation
from server.supervisor.child import Child

EVERY_S = 5.0
"""The best network is written so often at most: it is flushed to the disk, and who plays
evaluations with rising returns has a new one after each."""


class BestNetwork:
    """Asks for one at a time. The newest best one waits until the one before is written and its
    time has come; a trainer that was restarted meanwhile is asked again."""

    def __init__(self, trainer: Child, mean: float) -> None:
        """`mean`: of the evaluation whose network the best checkpoint has; NaN without one."""
        self._trainer = trainer
        self._mean = mean
        self._wanted: Evaluation | None = None
        """Better than what is written, and not asked for."""
        self._asked: Evaluation | None = None
        """The trainer writes it."""
        self._asked_of = 0
        """The process ID of that trainer."""
        self._next = 0.0
        """When the next one may be asked for, by `time.monotonic`."""

    def consider(self, evaluation: Evaluation) -> None:
        """An evaluation has ended: if it is the best so far, have its network written."""
        known = [self._mean, *(one.mean for one in (self._asked, self._wanted) if one is not None)]
        if evaluation.mean is None or not evaluation.counts:
            return
        if not any(mean is not None and evaluation.mean <= mean for mean in known):
            self._wanted = evaluation
            self.poll(time.monotonic())

    def poll(self, clock: float) -> None:
        """Ask for the one that waits, if it is time. `clock`: by `time.monotonic`, or infinity for
        now at the latest."""
        trainer = self._trainer
        if self._asked is not None and self._asked_of != trainer.pid:
            self._wanted, self._asked = self._wanted or self._asked, None  # it died
        if self._wanted is None or not trainer.alive:
            return
        if clock == math.inf or (self._asked is None and clock >= self._next):
            self._asked, self._wanted, self._asked_of = self._wanted, None, trainer.pid
            self._next = time.monotonic() + EVERY_S
            trainer.send(SaveBest(self._asked.line()))

    def saved(self, message: SavedBest) -> None:
        """The trainer has written one, or could not: then the next better one is tried."""
        self._asked = None
        if message.error is None:
            self._mean = message.mean
