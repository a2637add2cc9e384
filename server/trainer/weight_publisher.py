"""Publishing the learner's weights to the gateways, through the weight slot."""

from __future__ import annotations

import time

import numpy as np

from agent.learner import Learner
from server.ipc.weight_slot import WeightSlot


class WeightPublisher:
    """Copies the network into the slot, as often as it may and has changed."""

    def __init__(self, slot: WeightSlot, learner: Learner) -> None:
        """Publishes at once: gateways wait for the first weights."""
        self._slot = slot
        self._learner = learner
        self._published = -1
        """Updates of the network that is in the slot."""
        self._next = 0.0
        self.publish(0.0)

    @property
    def version(self) -> int:
        """Of the newest weights."""
        return self._slot.version

    def publish(self, every_s: float) -> None:
        """Publish the network as it is, and not again before this interval has passed."""
        vector = self._learner.policy_vector().numpy()
        # A policy of NaN would play nonsense: the gateways keep the last good one.
        if np.isfinite(vector).all():
            self._slot.publish(vector, self._slot.version + 1)
        self._published = self._learner.updates
        self._next = time.monotonic() + every_s

    def publish_if_due(self, every_s: float) -> None:
        """Publish a network that has changed, if the interval has passed."""
        if time.monotonic() >= self._next:
            self.publish_if_changed(every_s)

    def publish_if_changed(self, every_s: float) -> None:
        """Publish a network that is not in the slot yet."""
        if self._learner.updates != self._published:
            self.publish(every_s)
