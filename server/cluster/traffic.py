"""What goes between a node's gateways and the learners: rows there, weights back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from server.cluster.learner_shard import Weights
from server.cluster.shipper import Shipper
from server.ipc.weight_slot import WeightSlot

SOON_S = 0.01
"""Between two deliveries where nothing more waits and games come near what they may play: so late
those in lock step hear that they may go on."""

CALM_S = 0.05
"""The same where they do not: a delivery costs as much as hundreds of rows."""

AWAY_S = 0.25
"""Before the next try, where the learner does not answer."""

FETCH_S = 1.0
"""How long the learner is asked for newer weights at a time."""

JOIN_S = 10.0


def pause_s(left: int, played: int, seconds: float) -> float:
    """How long to wait for the next delivery. `left`: frames that games may play before they wait.
    `played`: those of the last so many seconds."""
    return CALM_S if left * seconds > 4 * CALM_S * played else SOON_S


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
        answered, at = 0, time.monotonic()
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
            now = time.monotonic()
            before, answered = answered, sum(shipper.answered for shipper in self._shippers)
            pause = pause_s(self._slot.allowed - answered, answered - before, now - at)
            at = now
            if not more:
                self._over.wait(pause)

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
