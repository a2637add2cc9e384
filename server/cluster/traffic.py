"""What goes between a node's gateways and the learners: rows there, weights back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from server.cluster.learner_shard import Weights
from server.cluster.shipper import Shipper
from server.ipc.weight_slot import WeightSlot

IDLE_S = 0.01
"""Between two deliveries where nothing more waits: so late games in lock step hear that they may
go on."""

AWAY_S = 0.25
"""Before the next try, where the learner does not answer."""

FETCH_S = 1.0
"""How long the learner is asked for newer weights at a time."""

JOIN_S = 10.0


class Traffic:
    """Two threads, until `close`."""

    def __init__(
        self,
        shippers: Sequence[Shipper],
        slot: WeightSlot,
        weights: Callable[[int, float], Weights],
    ) -> None:
        """`slot`: of this node's gateways. `weights`: of the first learner, above a version, after
        at most so many seconds; it may fail, and is called again."""
        self._shippers, self._slot, self._weights = shippers, slot, weights
        self.version, self.version_at = 0, time.monotonic()
        """Of the newest weights, and when they came, by `time.monotonic`."""
        self.trouble = ""
        """Why rows could not be delivered the last time that was tried; empty where they were."""
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._ship, self._follow)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """No more of it."""
        self._over.set()
        for thread in self._threads:
            thread.join(JOIN_S)

    def _ship(self) -> None:
        while not self._over.is_set():
            more = False
            try:
                for shipper in self._shippers:
                    more |= shipper.step()
                    self._slot.allowed = shipper.allowed
                self.trouble = ""
            except Exception as error:  # its machine is away, and is waited for: nothing is lost
                self.trouble = f"{type(error).__name__}: {error}".splitlines()[0]
                self._over.wait(AWAY_S)
            if not more:
                self._over.wait(IDLE_S)

    def _follow(self) -> None:
        """Keep the slot at the run's newest weights."""
        slot = self._slot
        while not self._over.is_set():
            try:
                version, vector = self._weights(slot.version, FETCH_S)
            except Exception:  # the same: games play with what they have
                self._over.wait(AWAY_S)
                continue
            if vector is not None and version > slot.version:
                slot.publish(vector, version)
                self.version, self.version_at = version, time.monotonic()
