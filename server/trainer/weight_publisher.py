"""Publishing the learner's weights to the gateways, through the weight slot."""

from __future__ import annotations

import time

import numpy as np

from agent.device import Download
from agent.learner import Learner
from server.ipc.weight_slot import WeightSlot


class WeightPublisher:
    """Copies the network into the slot, as often as it may and has changed."""

    def __init__(self, slot: WeightSlot, learner: Learner) -> None:
        """Publishes at once: gateways wait for the first weights."""
        self._slot = slot
        self._learner = learner
        self._published = -1
        """Updates of the network that is in the slot, or on its way there."""
        self._coming: Download | None = None
        self._next = 0.0
        self.publish(0.0)

    @property
    def version(self) -> int:
        """Of the newest weights."""
        return self._slot.version

    def publish(self, every_s: float) -> None:
        """Publish the network as it is, and not again before this interval has passed."""
        self._put(self._begin(every_s))

    def publish_if_due(self, every_s: float) -> None:
        """Publish a network that has changed, if the interval has passed; on a device that is not
        waited for, as soon as it has come from there."""
        if not self._coming and time.monotonic() >= self._next and self._changed:
            self._coming = self._begin(every_s)
        if self._coming and self._coming.arrived:
            self._put(self._coming)

    def publish_if_changed(self, every_s: float) -> None:
        """Publish a network that is not in the slot yet."""
        if self._coming or self._changed:
            self.publish(every_s)

    @property
    def _changed(self) -> bool:
        return self._learner.updates != self._published

    def _begin(self, every_s: float) -> Download:
        self._published = self._learner.updates
        self._next = time.monotonic() + every_s
        return self._learner.policy_on_its_way()

    def _put(self, coming: Download) -> None:
        """Into the slot, once it is there. What was on its way before is older, and not wanted."""
        vector = coming.wait().numpy()
        self._coming = None
        # A policy of NaN would play nonsense: the gateways keep the last good one.
        if np.isfinite(vector).all():
            self._slot.publish(vector, self._slot.version + 1)
