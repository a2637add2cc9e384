"""Interventions: how often, and for how long, an expert did something else than the answer said.

A person who takes over from the network, for example: `took` with the actor expert.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.decision import TRAIN
from server.gateway.slots import SlotTable


class Takeovers:
    """Those in training, counted since the start."""

    def __init__(self) -> None:
        self.frames = 0
        """Actions that were replaced."""
        self.begun = 0
        """Interventions: actions that were replaced one behind the other, in one game."""
        self._going_on = False
        """The last frame of some slot was one."""

    def add(
        self, table: SlotTable, rows: npt.NDArray[np.int64], replaced: npt.NDArray[np.bool_]
    ) -> None:
        """Frames of these slots [n]: whether they say that an expert did something else
        (`replaced` [n]). Each is the only one of its slot."""
        if not (self._going_on or replaced.any()):
            return
        replaced = replaced & (table.role[rows] == TRAIN)
        self.frames += int(np.count_nonzero(replaced))
        self.begun += int(np.count_nonzero(replaced & ~table.taken_over[rows]))
        table.taken_over[rows] = replaced
        self._going_on = bool(table.taken_over[: table.high_water].any())
