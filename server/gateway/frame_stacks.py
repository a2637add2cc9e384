"""The last frames of each slot's episode, for a network that looks at several at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.spaces import GameSpec
from server.gateway.lazy_arrays import LazyArrays


class FrameStacks:
    """The last `size` frames of each slot's episode.

    They are what agent.n_step.stacks makes of the stored frames: the oldest first, and the first
    frame of an episode in place of those before it.
    """

    def __init__(self, spec: GameSpec, size: int, most: int) -> None:
        self.size = size
        self.memory = LazyArrays(most)
        self._frames = self.memory.array(spec.observation_dtype, size, spec.observation_size)
        self._newest = self.memory.array(np.int64)
        """Where among a slot's frames the newest stands; the oldest is behind it, going round."""
        self._order = np.arange(1, size + 1)

    def add(
        self, rows: npt.NDArray[np.int64], obs: npt.NDArray[Any], first: npt.NDArray[np.bool_]
    ) -> None:
        """These slots have shown these observations [n, observation_size]; `first` [n]: those that
        begin an episode."""
        newest = (self._newest[rows] + 1) % self.size
        self._newest[rows] = newest
        self._frames[rows, newest] = obs
        if first.any():
            self._frames[rows[first]] = obs[first][:, None]

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Write the stacks of these slots to `out`, [n, size * observation_size]."""
        places = (self._newest[rows][:, None] + self._order) % self.size
        places += rows[:, None] * self.size
        frames = self._frames.reshape(-1, self._frames.shape[2])
        np.take(frames, places, axis=0, out=out.reshape(len(rows), self.size, -1), mode="clip")
