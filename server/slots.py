"""The memory of a gateway: one row for each slot, and one for each frame that waits.

Everything is an array with a row for each, grown by doubling when games connect, so that a frame
costs no allocation and a batch costs a fixed number of array operations. When most games have gone,
the arrays become smaller again.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.decision import ROLES
from agent.step import FINAL, STEP, StepBlock
from protocol.actor import ACTORS, NOBODY
from protocol.spaces import GameSpec
from protocol.tempest import HEADER

_FIRST_CAPACITY = 16

OUTBOX_ROWS = 3
"""Rows that a slot can add to the outbox (see there)."""


class SlotTable:
    """What is known of each slot between two of its frames."""

    def __init__(self, spec: GameSpec, most: int | None = None) -> None:
        """`most`: rows that there may be, which whoever calls `take` sees to."""
        self.most = most
        self.capacity = 0
        self.used = 0
        self.by_role = dict.fromkeys(ROLES.values(), 0)
        """Slots in use, by role."""
        self._free: list[int] = []
        """A heap: the lowest row is taken first, so that the arrays in use stay close together and
        their ends can be given back."""
        self.taken = np.empty(0, np.bool_)
        self.obs = np.empty((0, spec.observation_size), spec.observation_dtype)
        """The frame that was answered last: the pending one."""
        self.action = np.empty((0, spec.action_width), np.float32)
        self.actor = np.empty(0, np.uint8)
        self.seq = np.empty(0, np.uint32)
        self.stream = np.empty(0, np.int64)
        self.pending = np.empty(0, np.bool_)
        """There is a frame that the next one completes."""
        self.linked = np.empty(0, np.bool_)
        """The step before the pending frame was stored: a final row has something to end."""
        self.role = np.empty(0, np.uint8)
        self.leads = np.empty(0, np.bool_)
        """The expert leads in the slot's segment or episode (agent.decision)."""
        self.left = np.empty(0, np.int64)
        """Frames left of it; 0 before an episode's first frame."""
        self.episode_return = np.empty(0, np.float64)
        self.episode_length = np.empty(0, np.int64)
        self.played = np.empty((0, 1 + len(ACTORS)), np.int64)
        """Frames since the slot was taken, by who acted before them: nobody before the first one of
        an episode."""

    def take(self, streams: list[int], role: str) -> npt.NDArray[np.int64]:
        """Rows for new slots with these stream numbers."""
        self._grow(self.used + len(streams))
        rows = np.array([heappop(self._free) for _ in streams], np.int64)
        self.used += len(rows)
        self.taken[rows] = True
        self.stream[rows] = streams
        self.role[rows] = number = ROLES[role]
        self.by_role[number] += len(rows)
        self.pending[rows] = False
        self.linked[rows] = False
        self.actor[rows] = NOBODY
        self.played[rows] = 0
        self.left[rows] = 0
        self.episode_return[rows] = 0
        self.episode_length[rows] = 0
        return rows

    def give_back(self, rows: npt.NDArray[np.int64]) -> None:
        """The slots of these rows are gone."""
        self.used -= len(rows)
        for role in self.role[rows].tolist():
            self.by_role[role] -= 1
        self.taken[rows] = False
        for row in rows.tolist():
            heappush(self._free, row)

    def spare(self) -> int:
        """The capacity that would do, where that is far less than there is; else what there is."""
        in_use = np.flatnonzero(self.taken)
        needed = int(in_use[-1]) + 1 if len(in_use) else 0
        capacity = self.capacity
        while capacity > _FIRST_CAPACITY and needed <= capacity // 4:
            capacity //= 2
        return capacity

    def fit(self, capacity: int) -> None:
        """Have `capacity` rows: all beyond them are free."""
        _fit(self, capacity)
        kept = [row for row in self._free if row < capacity]
        self._free = [*kept, *range(self.capacity, capacity)]
        heapify(self._free)
        self.capacity = capacity

    def _grow(self, needed: int) -> None:
        """Have at least so many rows."""
        capacity = self.capacity
        while capacity < needed:
            capacity = max(_FIRST_CAPACITY, 2 * capacity)
        if self.most is not None:
            capacity = max(needed, min(capacity, self.most))
        if capacity > self.capacity:
            self.fit(capacity)


class FrameStacks:
    """The last `size` frames of each slot's episode, for a network that looks at several at once.

    They are what agent.windows.stacks makes of the stored frames: the oldest first, and the first
    frame of an episode in place of those before it.
    """

    def __init__(self, spec: GameSpec, size: int) -> None:
        self.size = size
        self._frames = np.empty((0, size, spec.observation_size), spec.observation_dtype)
        self._newest = np.empty(0, np.int64)
        """Where among a slot's frames the newest stands; the oldest is behind it, going round."""
        self._order = np.arange(1, size + 1)

    def fit(self, capacity: int) -> None:
        """Have `capacity` rows."""
        _fit(self, capacity, but=("_order",))

    def add(
        self, rows: npt.NDArray[np.int64], obs: npt.NDArray[Any], first: npt.NDArray[np.bool_]
    ) -> None:
        """These slots have shown these observations [n, observation_size]; `first` [n]: those that
        begin an episode."""
        newest = (self._newest[rows] + 1) % self.size
        self._newest[rows] = newest
        self._frames[rows, newest] = obs
        if first.any():
            self._frames[rows[first]] = obs[first][:, None]

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Write the stacks of these slots to `out`, [n, size * observation_size]."""
        places = (self._newest[rows][:, None] + self._order) % self.size
        places += rows[:, None] * self.size
        frames = self._frames.reshape(-1, self._frames.shape[2])
        np.take(frames, places, axis=0, out=out.reshape(len(rows), self.size, -1), mode="clip")


class FrameBatch:
    """The frames that arrived in this loop turn and wait for their answers.

    A slot has at most one frame waiting, so the batch never needs more rows than the table.
    """

    def __init__(self, spec: GameSpec, frame_stack: int = 1) -> None:
        self.n = 0
        self.row = np.empty(0, np.int64)
        """The slot's row in the table."""
        self.obs = np.empty((0, spec.observation_size), spec.observation_dtype)
        self.rewards = np.empty((0, len(spec.rewards)), np.float32)
        self.earned = np.empty(0, np.float32)
        """Their weighted sum."""
        self.status = np.empty(0, np.uint8)
        self.seq = np.empty(0, np.uint32)
        self.expert = np.empty((0, spec.action_width), np.float32)
        """The recommendation; NaN first where there is none."""
        self.took = np.empty((0, spec.action_width), np.float32)
        self.took_actor = np.empty(0, np.uint8)
        """Who really acted, 0 where the answer was followed."""
        self.header = np.empty((0, HEADER.itemsize), np.uint8)
        """What stood before the frame, where it came in the older format of Tempest."""
        self.headed = np.empty(0, np.bool_)
        self.asked = np.empty((0, frame_stack * spec.observation_size), spec.observation_dtype)
        """The observations that the network is asked about, one below the other: each one frame, or
        the frames of a stack side by side."""
        self.actions = np.empty((0, spec.action_width), np.float32)
        self.actors = np.empty(0, np.uint8)
        self.explored = np.empty(0, np.uint8)
        self.leads = np.empty(0, np.bool_)
        self.left = np.empty(0, np.int64)
        """The slot's, as in the table."""

        self.obs_bytes = memoryview(b"")
        """The memory of `obs`, byte by byte: copying a frame's observation there is one call."""
        self.header_bytes = memoryview(b"")

    def fit(self, capacity: int) -> None:
        """Have `capacity` rows. When it becomes smaller, no frame may wait."""
        if len(self.row) != capacity:
            # Nobody else may look at the old memory: it could not be let go of.
            self.obs_bytes.release()
            self.header_bytes.release()
            _fit(self, capacity)
            self.obs_bytes = self.obs.data.cast("B")
            self.header_bytes = self.header.data.cast("B")

    def keep(self, mask: npt.NDArray[np.bool_]) -> None:
        """Drop the frames where `mask` [n] is false, in place."""
        kept = np.flatnonzero(mask)
        for array in vars(self).values():
            if isinstance(array, np.ndarray):
                array[: len(kept)] = array[kept]
        self.n = len(kept)


class Outbox:
    """Rows on their way to the ring: what a full ring does not take waits here.

    Bounded: while anything waits no turn is run, so that a slot adds at most a step, its final row,
    and one more final row if it disconnects meanwhile.
    """

    def __init__(self, spec: GameSpec) -> None:
        self._spec = spec
        self._block = StepBlock.empty(spec, 0)
        self._start = 0
        self._stop = 0

    def __len__(self) -> int:
        return self._stop - self._start

    def fit(self, slots: int) -> None:
        """Have room for all that this many slots can add. It becomes smaller only while empty."""
        if len(self._block) < OUTBOX_ROWS * slots or (
            len(self._block) > OUTBOX_ROWS * slots and not len(self)
        ):
            waiting = self.waiting(len(self))
            block = StepBlock.empty(self._spec, OUTBOX_ROWS * slots)
            for name in StepBlock.__slots__:
                getattr(block, name)[: len(waiting)] = getattr(waiting, name)
            self._block, self._start, self._stop = block, 0, len(waiting)

    def steps(
        self,
        table: SlotTable,
        rows: npt.NDArray[np.int64],
        reward: npt.NDArray[np.float32],
        status: npt.NDArray[np.uint8],
    ) -> None:
        """Add the pending frames of these slots as steps with what they earned."""
        out = self._reserve(len(rows))
        np.take(table.obs, rows, axis=0, out=out.obs, mode="clip")
        np.take(table.action, rows, axis=0, out=out.action, mode="clip")
        np.take(table.actor, rows, out=out.actor, mode="clip")
        np.take(table.seq, rows, out=out.seq, mode="clip")
        np.take(table.stream, rows, out=out.stream, mode="clip")
        out.reward[:] = reward
        out.status[:] = status
        out.kind[:] = STEP

    def finals(
        self,
        table: SlotTable,
        rows: npt.NDArray[np.int64],
        obs: npt.NDArray[Any],
        seq: npt.NDArray[np.uint32],
    ) -> None:
        """Add last observations of these slots, which have no action."""
        out = self._reserve(len(rows))
        out.obs[:] = obs
        out.seq[:] = seq
        np.take(table.stream, rows, out=out.stream, mode="clip")
        out.action[:] = 0
        out.reward[:] = 0
        out.actor[:] = 0
        out.status[:] = 0
        out.kind[:] = FINAL

    def waiting(self, limit: int) -> StepBlock:
        """Up to `limit` of the oldest rows, as views."""
        return self._block.rows(self._start, min(self._stop, self._start + limit))

    def sent(self, n: int) -> None:
        """The oldest `n` rows are in the ring."""
        self._start += n
        if self._start == self._stop:
            self._start = self._stop = 0

    def _reserve(self, n: int) -> StepBlock:
        start, self._stop = self._stop, self._stop + n
        return self._block.rows(start, self._stop)


def slot_bytes(spec: GameSpec, frame_stack: int = 1) -> int:
    """Memory that a gateway has for each slot, in bytes."""
    holders: list[object] = [SlotTable(spec), FrameBatch(spec, frame_stack)]
    if frame_stack > 1:
        holders.append(FrameStacks(spec, frame_stack))
    each: int = sum(
        math.prod(array.shape[1:]) * array.dtype.itemsize
        for holder in holders
        for array in vars(holder).values()
        if isinstance(array, np.ndarray)
    )
    # The outbox: its columns are aligned, so that a single row would look too long.
    return each + OUTBOX_ROWS * StepBlock.nbytes(spec, 1024) // 1024


def _fit(holder: object, rows: int, but: tuple[str, ...] = ()) -> None:
    """Have all arrays of an object but these hold so many rows; what there was within them stays,
    and new rows are zero."""
    for name, array in vars(holder).items():
        if isinstance(array, np.ndarray) and name not in but and len(array) != rows:
            fitted = np.zeros((rows, *array.shape[1:]), array.dtype)
            kept = min(rows, len(array))
            fitted[:kept] = array[:kept]
            setattr(holder, name, fitted)
