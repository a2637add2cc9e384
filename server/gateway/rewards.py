"""The reward of a frame: the weighted sum of the components that the game sends."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from config.models import RewardConfig
from protocol.spaces import GameSpec
from server.gateway.frame_batch import FrameBatch


class RewardFunction:
    """Weights and clip of the configuration, for one game."""

    def __init__(self, spec: GameSpec, config: RewardConfig) -> None:
        self.weights = np.array([config.weights.get(name, 1.0) for name in spec.rewards], "f4")
        """Of each component."""
        self._clip = config.clip

    def change(self, config: RewardConfig) -> None:
        """Clip as configured here from now on. The weights stay: they are not live."""
        self._clip = config.clip

    def weigh(self, batch: FrameBatch, pending: npt.NDArray[np.bool_]) -> None:
        """Write what the frames earned to `batch.earned`. `pending` [n]: those that complete one
        before; the reward of an episode's first frame belongs to nothing and becomes 0. A sum that
        overflows is infinite: call it where numpy does not warn of that (`np.errstate`)."""
        earned = batch.earned[: batch.n]
        np.matmul(batch.rewards[: batch.n], self.weights, out=earned)
        earned[~pending] = 0

    def clip(self, reward: npt.NDArray[Any]) -> None:
        """Limit what is learned from, in place. Returns of episodes are not clipped."""
        if self._clip is not None:
            np.clip(reward, -self._clip, self._clip, out=reward)
