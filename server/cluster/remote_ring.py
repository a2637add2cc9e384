"""The ring of a gateway on another machine, as the supervisor sees it: its numbers."""

from __future__ import annotations

from typing import NamedTuple

from server.cluster.messages import Answered, RingNumbers
from server.ipc.inflight import InFlight


class Counted(NamedTuple):
    """What the driver has counted of a gateway's processes that died."""

    generation: int
    """Of the newest."""
    steps: int
    """STEP rows that its ring had."""

    def beyond(self, left: Answered) -> tuple[int, int]:
        """Of what a gateway had answered for: steps, and frames beyond them, less what was counted
        already."""
        counted = left.generation <= self.generation
        return (self.steps, 0) if counted else (left.steps, left.frames)


NOTHING_COUNTED = Counted(-1, 0)


class RemoteRing:
    """What was told of a ring last, and what was in those before it on machines that were lost."""

    def __init__(self, capacity: int) -> None:
        self._numbers = RingNumbers(0, 0, 0, capacity, 0, 0)
        self._before = 0
        self._gone: tuple[int, Counted, int, int] | None = None
        """Of a machine that was lost: `before`, `counted`, and `completed`, as they were."""
        self._generation = 0
        """Of the gateway's process that the numbers are of."""
        self._counted = NOTHING_COUNTED
        self.name = ""

    def told(self, numbers: RingNumbers, generation: int | None = None) -> None:
        """The newest numbers. `generation`: of the gateway's process; None where there is none."""
        self._numbers = numbers
        if generation is not None:
            self._generation = generation

    def process_counted(self, generation: int) -> None:
        """What was lost with this process of the gateway has been counted. Its machine still has it
        in its numbers until another one starts."""
        if self._gone is None:  # else the process was lost with its machine
            self._counted = Counted(generation, self._numbers.steps)

    def lost(self, kept: int) -> None:
        """Its machine is gone, and what it had not handed over. `kept`: STEP rows of it that
        its learner has, as far as it is known."""
        self._gone = self._before, self._counted, *self.completed
        self._counted = NOTHING_COUNTED
        self._before = max(self.steps_read, self._before + kept)
        self._numbers = RingNumbers(0, 0, 0, self.capacity, 0, 0)

    def account(self, left: Answered | None, kept: int) -> InFlight:
        """What was lost with the machine; nothing unless one was lost since the last call. `left`:
        what its gateway had answered for; None where nobody knows more than was told before.
        `kept`: as of `lost`, known better now."""
        if self._gone is None:
            return InFlight()
        before, counted, completed, frames = self._gone
        if left is not None:
            self._before = max(self._before, before + kept)
            steps, frames = counted.beyond(left)
            completed = before + steps
        self._gone = None
        return InFlight(max(0, completed - self._before), frames)

    @property
    def before(self) -> int:
        """STEP rows of rings that are lost: those that had reached the learner."""
        return self._before

    @property
    def newest(self) -> tuple[int, Counted]:
        """Of the newest machine, which has counters in files: `before`, and what was counted."""
        return self._gone[:2] if self._gone else (self._before, self._counted)

    @property
    def completed(self) -> tuple[int, int]:
        """As server.ipc.inflight has them for a gateway."""
        if self._generation <= self._counted.generation:
            return self.steps, 0
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
