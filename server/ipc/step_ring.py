"""The step ring: fixed-size records in shared memory, one writer (a gateway), one reader (the
trainer). Full means that the writer waits: nothing is ever overwritten or dropped.

Layout: a header of one cache line for each counter, then a StepBlock of `capacity` rows. The
counters only grow; a row's place is its number modulo the capacity.

Either end may die at any moment and another process take its place: rows count once `written` says
so, and stay until `read` does. A writer that takes over calls `take_over` first.
"""

from __future__ import annotations

from multiprocessing.shared_memory import SharedMemory

import numpy as np

from agent.source import UNKNOWN, Origin, Source
from agent.step import STEP, StepBlock
from protocol.spaces import GameSpec
from server.ipc import shared_memory
from server.ipc.shared_memory import fence

_LINE = 8  # int64s in a cache line: the writer's and the reader's counters do not share one
_LINES = 4
_HEADER_BYTES = _LINES * _LINE * 8
_WRITTEN, _READ, _STEPS, _SESSIONS = 0, _LINE, 2 * _LINE, 3 * _LINE
# Beside `written`: what it and `steps` were before the newest block.
_BEFORE, _STEPS_BEFORE = _WRITTEN + 1, _WRITTEN + 2
_ANSWERED = _WRITTEN + 3
_STEPS_READ = _READ + 1  # beside `read`: how many of those rows were steps
_GATEWAY, _INCARNATION = _SESSIONS + 1, _SESSIONS + 2


class StepRing:
    """Both ends of a ring; which one a process may use is up to it: `write`, or `read`."""

    def __init__(
        self, shared: SharedMemory, spec: GameSpec, capacity: int, memory: int = 0
    ) -> None:
        assert shared.buf is not None
        self._memory = shared
        self.name = shared.name
        self.capacity = capacity
        self._counters = np.frombuffer(shared.buf, np.int64, _LINES * _LINE)
        self._rows = StepBlock.over(shared.buf[_HEADER_BYTES:], spec, capacity, memory)

    @staticmethod
    def create(
        spec: GameSpec, capacity: int, source: Source = UNKNOWN, memory: int = 0
    ) -> StepRing:
        """A new ring of `capacity` rows, which `source` numbers. `memory`: numbers of the network's
        recurrent state. The creator calls `unlink` in the end."""
        size = _HEADER_BYTES + StepBlock.nbytes(spec, capacity, memory)
        ring = StepRing(shared_memory.create(size), spec, capacity, memory)
        ring._counters[_GATEWAY], ring._counters[_INCARNATION] = source
        return ring

    @staticmethod
    def attach(name: str, spec: GameSpec, capacity: int, memory: int = 0) -> StepRing:
        """The ring of this name, made by another process for the same."""
        return StepRing(SharedMemory(name), spec, capacity, memory)

    @property
    def origin(self) -> Origin:
        """Of the oldest row that was not given back."""
        gateway, incarnation = self._counters[_GATEWAY], self._counters[_INCARNATION]
        return Origin(Source(int(gateway), int(incarnation)), int(self._counters[_READ]))

    @property
    def steps(self) -> int:
        """STEP rows written since the ring was made: what schedules count."""
        return int(self._counters[_STEPS])

    @property
    def answered(self) -> int:
        """Frames answered for training since the ring was made, whose steps are read, here, on
        their way, or not complete. Falls where games leave their last ones incomplete."""
        return max(int(self._counters[_ANSWERED]), self.steps)

    @answered.setter
    def answered(self, frames: int) -> None:
        self._counters[_ANSWERED] = frames

    @property
    def steps_read(self) -> int:
        """STEP rows that were read and given back since the ring was made. Never more than
        `steps`, if that is asked for later."""
        return int(self._counters[_STEPS_READ])

    @property
    def used(self) -> int:
        """Rows written and not yet read."""
        return int(self._counters[_WRITTEN] - self._counters[_READ])

    @property
    def free(self) -> int:
        """Rows that can be written now."""
        return self.capacity - self.used

    def write(self, block: StepBlock) -> None:
        """Append a block, whole. The caller has made sure that it fits: ValueError if not."""
        n = len(block)
        if n > self.free:
            raise ValueError(f"expected at most {self.free} rows, got {n}; wait for the reader")
        written = int(self._counters[_WRITTEN])
        start = written % self.capacity
        head = min(n, self.capacity - start)
        _copy(block.rows(0, head), self._rows.rows(start, start + head))
        if head < n:
            _copy(block.rows(head, n), self._rows.rows(0, n - head))
        steps = int(self._counters[_STEPS])
        self._counters[_STEPS_BEFORE], self._counters[_BEFORE] = steps, written
        fence()
        self._counters[_STEPS] = steps + np.count_nonzero(block.kind == STEP)
        self._counters[_WRITTEN] = written + n

    def take_over(self) -> None:
        """Write on in place of a process that died. A block that it did not finish is not there."""
        if self._counters[_WRITTEN] == self._counters[_BEFORE]:
            self._counters[_STEPS] = self._counters[_STEPS_BEFORE]
        # What it had answered beyond that is lost with it.
        self._counters[_ANSWERED] = self._counters[_STEPS]

    def count_session(self) -> int:
        """How many sessions the writers have begun before this one, all of them together."""
        before = int(self._counters[_SESSIONS])
        self._counters[_SESSIONS] = before + 1
        return before

    def begin_at(self, origin: Origin) -> None:
        """Let the next row come from there. Of a ring in which no row waits. ValueError else."""
        if self.used:
            raise ValueError(f"expected a ring without rows, got one with {self.used}")
        (self._counters[_GATEWAY], self._counters[_INCARNATION]), number = origin
        self._counters[[_WRITTEN, _BEFORE, _READ]] = number
        fence()

    def begin_sessions(self, begun: int) -> None:
        """Let so many sessions have been begun before, with rings that are lost."""
        self._counters[_SESSIONS] = begun

    def read(self, limit: int, behind: int = 0) -> StepBlock | None:
        """Up to `limit` of the oldest rows as views of the ring, without the first `behind` of
        them; None if there are none.

        They stay valid until `release`.
        """
        used = min(self.used - behind, limit)
        if used <= 0:
            return None
        fence()
        start = (int(self._counters[_READ]) + behind) % self.capacity
        return self._rows.rows(start, min(start + used, self.capacity))

    def release(self, n: int) -> None:
        """Give `n` rows that were read back to the writer."""
        read = int(self._counters[_READ])
        steps = np.count_nonzero(self._rows.kind[np.arange(read, read + n) % self.capacity] == STEP)
        fence()
        self._counters[_READ] = read + n
        self._counters[_STEPS_READ] += steps

    def take_over_reading(self, n: int) -> None:
        """Read on in place of a process that died. `n`: rows that it had read and not given back:
        they are given back now."""
        self.release(n)
        # It may have died between the two counters: every row that waits is looked at.
        while True:
            steps, written = self.steps, int(self._counters[_WRITTEN])
            fence()
            waiting = np.arange(int(self._counters[_READ]), written) % self.capacity
            found = int(np.count_nonzero(self._rows.kind[waiting] == STEP))
            fence()
            if (steps, written) == (self.steps, int(self._counters[_WRITTEN])):
                self._counters[_STEPS_READ] = steps - found
                return

    def close(self) -> None:
        """Let go of the memory; it lives on while others hold it and nobody called `unlink`."""
        del self._counters, self._rows
        self._memory.close()

    def unlink(self) -> None:
        """Remove the memory's name."""
        self._memory.unlink()


def _copy(source: StepBlock, target: StepBlock) -> None:
    for name in StepBlock.__slots__:
        getattr(target, name)[...] = getattr(source, name)
