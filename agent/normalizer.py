"""Running mean and deviation of observations, to normalize them by."""

from __future__ import annotations

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
        self.count = 0
        self.mean: Doubles = np.zeros(columns)
        self._squares: Doubles = np.zeros(columns)  # of the deviations, summed

    def update(self, rows: npt.NDArray[Any]) -> None:
        """Take in rows [n, columns]."""
        if not len(rows):
            return
        values = rows.astype(np.float64)
        mean = values.mean(0)
        squares = np.square(values - mean).sum(0)
        away, total = mean - self.mean, self.count + len(rows)
        self.mean = self.mean + away * (len(rows) / total)
        self._squares += squares + np.square(away) * (self.count * len(rows) / total)
        self.count = total

    @property
    def scale(self) -> Doubles:
        """One over the standard deviation of each column; 1 before two rows were seen."""
        if self.count < 2:
            return np.ones_like(self.mean)
        deviation = np.sqrt(self._squares / (self.count - 1))
        scale: Doubles = 1 / np.maximum(deviation, SMALLEST_DEVIATION)
        return scale

    def get_state(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return {
            "count": self.count,
            "mean": self.mean.tolist(),
            "squares": self._squares.tolist(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from `get_state`."""
        self.count = int(state["count"])
        self.mean = np.array(state["mean"], np.float64)
        self._squares = np.array(state["squares"], np.float64)
