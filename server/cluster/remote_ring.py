"""The ring of a gateway on another machine, as the supervisor sees it: its numbers."""

from __future__ import annotations

from server.cluster.messages import RingNumbers


class RemoteRing:
    """What was told of a ring last, and what was in those before it on machines that were lost."""

    def __init__(self, capacity: int) -> None:
        self._numbers = RingNumbers(0, 0, 0, capacity, 0, 0)
        self._before = 0
        self.name = ""

    def told(self, numbers: RingNumbers) -> None:
        """The newest numbers."""
        self._numbers = numbers

    def lost(self, received: int) -> None:
        """Its machine is gone, and what it had not handed over. `received`: STEP rows of it
        that its learner has been sent."""
        self._before = max(self.steps_read, self._before + received)
        self._numbers = RingNumbers(0, 0, 0, self.capacity, 0, 0)

    @property
    def before(self) -> int:
        """STEP rows of rings that are lost: those that had reached the learner."""
        return self._before

    @property
    def completed(self) -> tuple[int, int]:
        """As server.ipc.inflight has them for a gateway."""
        return self._before + self._numbers.completed, self._numbers.open_frames

    @property
    def steps(self) -> int:
        return self._before + self._numbers.steps

    @property
    def steps_read(self) -> int:
        return self._before + self._numbers.steps_read

    @property
    def used(self) -> int:
        return self._numbers.used

    @property
    def capacity(self) -> int:
        return self._numbers.capacity

    def close(self) -> None:
        """Nothing of it is here."""

    def unlink(self) -> None:
        """Nothing of it is here."""
