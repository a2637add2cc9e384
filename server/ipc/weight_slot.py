"""The weight slot: the newest policy in shared memory, two buffers and a version.

The trainer writes version v into buffer v % 2 while readers copy the other one. A reader that was
so slow that the writer came round to its buffer finds that out from the counters and takes the
next version instead: it gets a complete set or none.
"""

from __future__ import annotations

from multiprocessing.shared_memory import SharedMemory

import numpy as np
import numpy.typing as npt

from server.ipc import shared_memory
from server.ipc.shared_memory import fence

_HEADER_BYTES = 64
_BEGUN, _VERSION, _BASE_FRAMES, _PUBLISHED, _ALLOWED = 0, 1, 2, 3, 4


def weights_name(ring: str) -> str:
    """Of the slot that belongs to a server whose first ring has this name."""
    return f"{ring}_weights"


class WeightSlot:
    """Both ends: the trainer publishes, gateways fetch."""

    def __init__(self, memory: SharedMemory, size: int) -> None:
        assert memory.buf is not None
        self._memory = memory
        self.name = memory.name
        self.size = size
        self._counters = np.frombuffer(memory.buf, np.int64, _HEADER_BYTES // 8)
        self._buffers = np.frombuffer(
            memory.buf, np.float32, 2 * size, offset=_HEADER_BYTES
        ).reshape(2, size)

    @staticmethod
    def create(size: int, version: int = 0, name: str | None = None) -> WeightSlot:
        """A slot for `size` float32 parameters, whose versions go on from `version`. Nothing may be
        fetched before the first is published. The creator calls `unlink` in the end."""
        slot = WeightSlot(shared_memory.create(_HEADER_BYTES + 8 * size, name), size)
        slot._counters[[_BEGUN, _VERSION]] = version
        return slot

    @staticmethod
    def attach(name: str, size: int) -> WeightSlot:
        """The slot of this name, made by another process."""
        return WeightSlot(SharedMemory(name), size)

    @staticmethod
    def is_left(name: str, size: int) -> bool:
        """Whether a writer who is gone has published to a slot of this name. Otherwise the name is
        free then: what is left of a slot that was not finished is removed."""
        try:
            slot = WeightSlot.attach(name, size)
        except FileNotFoundError:
            return False
        except ValueError:  # not even memory
            shared_memory.remove(name)
            return False
        published = bool(slot._counters[_PUBLISHED])
        slot.close()
        if not published:
            shared_memory.remove(name)
        return published

    @property
    def version(self) -> int:
        """The newest complete version; 0 before the first."""
        return int(self._counters[_VERSION])

    @property
    def base_frames(self) -> int:
        """Frames stored before this start of the run: schedules go on from there."""
        return int(self._counters[_BASE_FRAMES])

    @base_frames.setter
    def base_frames(self, frames: int) -> None:
        self._counters[_BASE_FRAMES] = frames

    @property
    def allowed(self) -> int:
        """Frames that all gateways together may have answered for training since this start of the
        run: with so many, games in lock step wait (agent.update_budget)."""
        return int(self._counters[_ALLOWED])

    @allowed.setter
    def allowed(self, frames: int) -> None:
        self._counters[_ALLOWED] = frames

    def publish(self, vector: npt.NDArray[np.float32], version: int) -> None:
        """Make `vector` [size] the newest version. Versions rise: by one where the trainer
        publishes, by more on a machine that does not get each of them (server.cluster)."""
        if version <= self.version:
            raise ValueError(f"expected a version above {self.version}, got {version}")
        self._counters[_BEGUN] = version
        fence()
        self._buffers[version % 2] = vector
        fence()
        self._counters[_VERSION] = version
        self._counters[_PUBLISHED] = 1

    def fetch(self, out: npt.NDArray[np.float32]) -> int:
        """Copy the newest version into `out` [size]; its number, or 0 if it was being replaced
        (`out` is then worthless: try again later)."""
        version = self.version
        if not version:
            return 0
        fence()
        out[:] = self._buffers[version % 2]
        fence()
        # The writer of version + 2 uses the buffer that was just read.
        return version if int(self._counters[_BEGUN]) < version + 2 else 0

    def close(self) -> None:
        """Let go of the memory."""
        del self._counters, self._buffers
        self._memory.close()

    def unlink(self) -> None:
        """Remove the memory's name."""
        self._memory.unlink()
