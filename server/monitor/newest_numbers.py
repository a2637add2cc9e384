"""For each metric the newest value that was a number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set

ALWAYS_THERE = ("loss", "td_err_mean", "q_mean", "grad_norm")
"""Metrics that every update has: where they are NaN, that is news and not the lack of any."""


class NewestNumbers:
    """What metrics were when they last were numbers: a mean over no rows is none."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        """What no process tells any more is not in it. A new dict with each row: a reader keeps
        the one it has."""
        self._numbered: dict[str, float] = {}
        """When each metric in `last` was a number, s."""
        self._put_away: dict[str, float] = {}
        """The trainer's numbers, while its reports are late."""

    def add(
        self,
        row: Mapping[str, float],
        now: float,
        *,
        of_trainer: Set[str],
        late: Set[str],
        forget_after_s: float,
    ) -> None:
        """Take in a row. What the trainer measured when it last learnt (`of_trainer`) is still so
        of its network; it is only not shown while the trainer is late. Anything else that has been
        no number for `forget_after_s` is forgotten. `late`: metrics of processes that are late.
        `now`: s, by a clock that only rises."""
        learnt = row.get("updates_per_s", 0.0) > 0
        last = self.last = dict(self.last)
        for name, value in row.items():
            if not math.isnan(value) or (learnt and name in ALWAYS_THERE):
                last[name], self._numbered[name] = value, now
                self._put_away.pop(name, None)
            elif name in late:
                if name in last and name in of_trainer:
                    self._put_away[name] = last[name]
                last.pop(name, None)
            elif name in self._put_away:
                last[name] = self._put_away.pop(name)
            elif (
                name in last
                and name not in of_trainer
                and now - self._numbered[name] > forget_after_s
            ):
                del last[name]
