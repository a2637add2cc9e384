"""Running mean and deviation of observations, to normalize them by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

SMALLEST_DEVIATION = 1e-4
"""Columns that vary less are scaled as if they varied so much: what is constant stays small."""


class RunningStatistics:
    """Mean and variance of all rows ever seen, column by column, in float64.

    Blocks are merged as by Chan, Golub and LeVeque (1979): exact whatever their sizes.
    """

    def __init__(self, columns: int) -> None:
        self.count: Doubles = np.zeros(columns)
        """Rows that each column was seen in: fewer where it came later (agent.warm_start)."""
        self.mean: Doubles = np.zeros(columns)
        self._squares: Doubles = np.zeros(columns)  # of the deviations, summed

    def update(self, rows: npt.NDArray[Any]) -> None:
        """Take in rows [n, columns]."""
        if not len(rows):
            return
        values = rows.astype(np.float64)
        mean = values.mean(0)
        self.merge(np.float64(len(rows)), mean, np.square(values - mean).sum(0))

    def merge(self, count: Doubles | np.float64, mean: Doubles, squares: Doubles) -> None:
        """Take in rows of which the number, the mean and the squares of the deviations from it,
        added up, are known, [columns] each."""
        away, total = mean - self.mean, self.count + count
        some = np.maximum(total, 1)
        self.mean = self.mean + away * (count / some)
        self._squares = self._squares + squares + np.square(away) * (self.count * count / some)
        self.count = total

    def moments(self) -> Doubles:
        """What `merge` wants of all rows seen, one behind the other, [3 * columns]."""
        return np.concatenate((self.count, self.mean, self._squares))

    @property
    def scale(self) -> Doubles:
        """One over the standard deviation of each column; 1 before two rows were seen."""
        deviation = np.sqrt(self._squares / np.maximum(self.count - 1, 1))
        scale = 1 / np.maximum(deviation, SMALLEST_DEVIATION)
        return np.where(self.count < 2, 1.0, scale)

    def get_state(self) -> dict[str, Any]:
        """All of it, as plain values."""
        counts = self.count.astype(int).tolist()
        return {
            "count": counts if len(set(counts)) > 1 else counts[0],
            "mean": self.mean.tolist(),
            "squares": self._squares.tolist(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from `get_state`."""
        self.mean = np.array(state["mean"], np.float64)
        self.count = np.broadcast_to(np.float64(state["count"]), self.mean.shape).copy()
        self._squares = np.array(state["squares"], np.float64)


def rearranged(state: dict[str, Any], sources: Sequence[int | None]) -> dict[str, Any]:
    """A state as of `get_state`, with these of its columns; None: one that was never seen."""
    count = np.broadcast_to(np.int64(state["count"]), len(state["mean"])).tolist()
    columns = {"count": count, "mean": state["mean"], "squares": state["squares"]}
    return {
        name: [0 if at is None else values[at] for at in sources]
        for name, values in columns.items()
    }
