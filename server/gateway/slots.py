"""The memory of a gateway: one row for each slot, and one for each frame that waits.

Everything is an array with a row for each slot that there may be (server.gateway.lazy_arrays), so
that a frame costs no allocation, a batch costs a fixed number of array operations, and a slot that
comes or goes costs the others nothing. When most games have gone, their memory is given back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from agent.decision import ROLES
from agent.step import FINAL, STEP, StepBlock
from protocol.actor import ACTORS, NOBODY
from protocol.spaces import GameSpec
from protocol.tempest import HEADER
from server.gateway.lazy_arrays import LazyArrays, give_back, reserved

FEW_SLOTS = 64
"""For so few it is not worth while to give memory back."""

OUTBOX_ROWS = 3
"""Rows that a slot can add to the outbox (see there)."""


class SlotTable:
    """What is known of each slot between two of its frames."""

    def __init__(self, spec: GameSpec, most: int) -> None:
        """`most`: rows that there may be, which whoever calls `take` sees to."""
        self.most = most
        self.high = 0
        """Rows from here on are free, and take no memory."""
        self.used = 0
        self.by_role = dict.fromkeys(ROLES.values(), 0)
        """Slots in use, by role."""
        self.memory = LazyArrays(most)
        array = self.memory.array
        self.taken = array(np.bool_)
        self.obs = array(spec.observation_dtype, spec.observation_size)
        """The frame that was answered last: the pending one."""
        self.action = array(np.float32, spec.action_width)
        self.actor = array(np.uint8)
        self.seq = array(np.uint32)
        self.stream = array(np.int64)
        self.pending = array(np.bool_)
        """There is a frame that the next one completes."""
        self.linked = array(np.bool_)
        """The step before the pending frame was stored: a final row has something to end."""
        self.role = array(np.uint8)
        self.leads = array(np.bool_)
        """The expert leads in the slot's segment or episode (agent.decision)."""
        self.left = array(np.int64)
        """Frames left of it; 0 before an episode's first frame."""
        self.episode_return = array(np.float64)
        self.episode_length = array(np.int64)
        self.played = array(np.int64, 1 + len(ACTORS))
        """Frames since the slot was taken, by who acted before them: nobody before the first one of
        an episode."""

    def take(self, streams: list[int], role: str) -> npt.NDArray[np.int64]:
        """Rows for new slots with these stream numbers: the lowest that are free, so that those in
        use stay close together."""
        free = np.flatnonzero(~self.taken[: self.high])[: len(streams)]
        more = np.arange(self.high, self.high + len(streams) - len(free))
        rows = np.concatenate([free, more])
        self.high += len(more)
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
        for role, n in enumerate(np.bincount(self.role[rows], minlength=len(ROLES)).tolist()):
            self.by_role[role] -= n
        self.taken[rows] = False

    def shrink(self) -> bool:
        """Give memory back where far fewer rows are in use than were; whether it was."""
        in_use = np.flatnonzero(self.taken[: self.high])
        needed = int(in_use[-1]) + 1 if len(in_use) else 0
        if self.high <= FEW_SLOTS or needed > self.high // 4:
            return False
        self.high = needed
        self.memory.give_back(needed)
        return True


class FrameStacks:
    """The last `size` frames of each slot's episode, for a network that looks at several at once.

    They are what agent.n_step.stacks makes of the stored frames: the oldest first, and the first
    frame of an episode in place of those before it.
    """

    def __init__(self, spec: GameSpec, size: int, most: int) -> None:
        self.size = size
        self.memory = LazyArrays(most)
        self._frames = self.memory.array(spec.observation_dtype, size, spec.observation_size)
        self._newest = self.memory.array(np.int64)
        """Where among a slot's frames the newest stands; the oldest is behind it, going round."""
        self._order = np.arange(1, size + 1)

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

    def __init__(self, spec: GameSpec, frame_stack: int, most: int) -> None:
        self.n = 0
        self.memory = LazyArrays(most)
        array = self.memory.array
        self.row = array(np.int64)
        """The slot's row in the table."""
        self.obs = array(spec.observation_dtype, spec.observation_size)
        self.rewards = array(np.float32, len(spec.rewards))
        self.earned = array(np.float32)
        """Their weighted sum."""
        self.status = array(np.uint8)
        self.seq = array(np.uint32)
        self.expert = array(np.float32, spec.action_width)
        """The recommendation; NaN first where there is none."""
        self.took = array(np.float32, spec.action_width)
        self.took_actor = array(np.uint8)
        """Who really acted, 0 where the answer was followed."""
        self.header = array(np.uint8, HEADER.itemsize)
        """What stood before the frame, where it came in the older format of Tempest."""
        self.headed = array(np.bool_)
        self.asked = array(spec.observation_dtype, frame_stack * spec.observation_size)
        """The observations that the network is asked about, one below the other: each one frame, or
        the frames of a stack side by side."""
        self.actions = array(np.float32, spec.action_width)
        self.actors = array(np.uint8)
        self.explored = array(np.uint8)
        self.leads = array(np.bool_)
        self.left = array(np.int64)
        """The slot's, as in the table."""

        self.obs_bytes = self.obs.data.cast("B")
        """The memory of `obs`, byte by byte: copying a frame's observation there is one call."""
        self.header_bytes = self.header.data.cast("B")

    def keep(self, mask: npt.NDArray[np.bool_]) -> None:
        """Drop the frames where `mask` [n] is false, in place."""
        kept = np.flatnonzero(mask)
        for array in vars(self).values():
            if isinstance(array, np.ndarray):
                array[: len(kept)] = array[kept]
        self.n = len(kept)


class PendingSteps:
    """Rows on their way to the ring: what a full ring does not take waits here.

    Bounded: while anything waits no turn is run, so that a slot adds at most a step, its final row,
    and one more final row if it disconnects meanwhile.
    """

    def __init__(self, spec: GameSpec, most: int) -> None:
        self._memory = reserved(StepBlock.nbytes(spec, OUTBOX_ROWS * most))
        self._block = StepBlock.over(self._memory, spec, OUTBOX_ROWS * most)
        self._start = 0
        self._stop = 0

    def __len__(self) -> int:
        return self._stop - self._start

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

    def give_back(self) -> None:
        """Give all memory back. Only while empty."""
        give_back(self._memory)

    def _reserve(self, n: int) -> StepBlock:
        start, self._stop = self._stop, self._stop + n
        return self._block.rows(start, self._stop)


def slot_bytes(spec: GameSpec, frame_stack: int = 1) -> int:
    """Memory that a gateway has for each slot, in bytes."""
    holders: list[SlotTable | FrameBatch | FrameStacks] = [
        SlotTable(spec, 1),
        FrameBatch(spec, frame_stack, 1),
    ]
    if frame_stack > 1:
        holders.append(FrameStacks(spec, frame_stack, 1))
    each = sum(holder.memory.row_bytes for holder in holders)
    # The outbox: its columns are aligned, so that a single row would look too long.
    return each + OUTBOX_ROWS * StepBlock.nbytes(spec, 1024) // 1024
