"""Returns and lengths of episodes, and who acted in them, for the report."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from agent.decision import EVALUATED, ROLES
from protocol.streams import session_of
from server.gateway.slots import SlotTable
from server.ipc.messages import LEFT, LIMIT, FinishedEpisode

MOST = 10_000
"""Finished episodes that are kept until a report takes them: the newest ones."""

_ROLE_NAMES = {number: name for name, number in ROLES.items()}


class EpisodeStats:
    """Adds frames up to episodes. The sums of each slot are in the table."""

    def __init__(self) -> None:
        self.finished: deque[FinishedEpisode] = deque(maxlen=MOST)
        """Episodes that no report has taken."""

    def add(
        self,
        table: SlotTable,
        rows: npt.NDArray[np.int64],
        earned: npt.NDArray[np.float32],
        pending: npt.NDArray[np.bool_],
    ) -> None:
        """Count a frame of each of these slots [n]: what it earned, and (`pending`) whether it
        completes one before. `table.actor` is who acted since then."""
        table.played[rows, table.actor[rows]] += 1
        table.episode_return[rows] += earned
        table.episode_length[rows] += pending

    def end(
        self, table: SlotTable, rows: npt.NDArray[np.int64], pending: npt.NDArray[np.bool_]
    ) -> None:
        """The episodes of these slots [n] have ended; those of a single frame are none."""
        for row in rows[pending].tolist():
            self.finished.append(_episode(table, row))
        table.episode_return[rows] = 0
        table.episode_length[rows] = 0
        table.episodes[rows] += 1
        table.filled[rows] = 0

    def cut(self, table: SlotTable, rows: npt.NDArray[np.int64]) -> None:
        """The connection of these slots [n] is gone. What they have played of an episode of
        evaluation is kept: an evaluation tells what it lacks."""
        evaluated = np.isin(table.role[rows], EVALUATED)
        for row in rows[evaluated & (table.episode_length[rows] > 0)].tolist():
            cut = LIMIT if table.limited[row] else LEFT
            self.finished.append(_episode(table, row, cut))

    def take(self) -> list[FinishedEpisode]:
        """The episodes that have finished since this was last called, in their order."""
        taken = list(self.finished)
        self.finished.clear()
        return taken


def _episode(table: SlotTable, row: int, cut: str = "") -> FinishedEpisode:
    """What a slot has played since its episode began."""
    return FinishedEpisode(
        _ROLE_NAMES[int(table.role[row])],
        float(table.episode_return[row]),
        int(table.episode_length[row]),
        session_of(int(table.stream[row])),
        cut,
        int(table.filled[row]),
    )
