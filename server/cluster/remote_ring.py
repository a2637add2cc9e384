"""The ring of a gateway on another machine, as the supervisor sees it: its numbers."""

from __future__ import annotations

from server.cluster.messages import RingNumbers
from server.ipc.inflight import InFlight


class RemoteRing:
    """What was told of a ring last, and what was in those before it on machines that were lost."""

    def __init__(self, capacity: int) -> None:
        self._numbers = RingNumbers(0, 0, 0, capacity, 0, 0)
        self._before = 0
        self._gone: tuple[int, int, int] | None = None
        """Of a machine that was lost: `before`, and `completed`, as they were."""
        self.name = ""

    def told(self, numbers: RingNumbers) -> None:
        """The newest numbers."""
        self._numbers = numbers

    def lost(self, kept: int) -> None:
        """Its machine is gone, and what it had not handed over. `kept`: STEP rows of it that
        its learner has, as far as it is known."""
        self._gone = self._before, *self.completed
        self._before = max(self.steps_read, self._before + kept)
        self._numbers = RingNumbers(0, 0, 0, self.capacity, 0, 0)

    def account(self, left: tuple[int, int] | None, kept: int) -> InFlight:
        """What was lost with the machine; nothing unless one was lost since the last call. `left`:
        what its gateway had completed, and answered beyond that; None where nobody knows more than
        was told before. `kept`: as of `lost`, known better now."""
        if self._gone is None:
            return InFlight()
        before, completed, frames = self._gone
        if left is not None:
            self._before = max(self._before, before + kept)
            completed, frames = before + left[0], left[1]
        self._gone = None
        return InFlight(max(0, completed - self._before), frames)

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
