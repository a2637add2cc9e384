"""The table of slots: what a gateway keeps of each game between two of its frames.

It is arrays with a row for each slot that there may be (server.gateway.lazy_arrays), so that a
frame costs no allocation, a batch costs a fixed number of array operations, and a slot that comes
or goes costs the others nothing. When most games have gone, their memory is given back.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.decision import ROLES, TRAIN
from protocol.actor import NOBODY, TAG_COUNT
from protocol.spaces import GameSpec
from server.gateway.lazy_arrays import LazyArrays

FEW_SLOTS = 64
"""A table of so few rows gives no memory back: there is little to gain."""


class SlotTable:
    """What is known of each slot between two of its frames."""

    def __init__(self, spec: GameSpec, capacity: int, memory: int = 0) -> None:
        """`capacity`: rows that there may be, which whoever calls `take` sees to. `memory`: numbers
        of the network's recurrent state."""
        self.capacity = capacity
        self.high_water = 0
        """Rows from here on are free, and take no memory."""
        self.used = 0
        self.by_role = dict.fromkeys(ROLES.values(), 0)
        """Slots in use, by role."""
        self.memory = LazyArrays(capacity)
        array = self.memory.array
        self.taken = array(np.bool_)
        self.obs = array(spec.observation_dtype, spec.observation_size)
        """The frame that was answered last: the pending one."""
        self.action = array(np.float32, spec.action_width)
        self.recommended = array(np.float32, spec.action_width)
        """NaN where nothing was."""
        self.legal = array(np.uint8, spec.legal_bytes)
        """Which choices were legal in it, packed (protocol.masks); no bytes without masks."""
        self.state = array(np.float16, memory)
        """The network's recurrent state before it."""
        self.recurrent = array(np.float32, memory)
        """The state behind it."""
        self.policy_version = array(np.uint32)
        """Of the weights when it was decided."""
        self.actor = array(np.uint8)
        self.seq = array(np.uint32)
        self.stream = array(np.int64)
        self.pending = array(np.bool_)
        """There is a frame that the next one completes."""
        self.linked = array(np.bool_)
        """The step before the pending frame was stored: a final row has something to end."""
        self.role = array(np.uint8)
        self.explores = array(np.bool_)
        """The network explores there."""
        self.policy = array(np.uint16)
        """Who plays (server.gateway.named_play): 0 for the newest network."""
        self.expert_leads = array(np.bool_)
        """The expert leads in the slot's segment or episode (agent.decision)."""
        self.frames_left = array(np.int64)
        """Frames left of it; 0 before an episode's first frame."""
        self.episode_return = array(np.float64)
        self.episode_length = array(np.int64)
        self.episodes = array(np.int64)
        """That have ended since the slot began to play in its role."""
        self.taken_over = array(np.bool_)
        """An expert did something else than the answer before the last."""
        self.filled = array(np.int64)
        """Frames of the episode for which an expert that plays alone recommended nothing."""
        self.limited = array(np.bool_)
        """The episode has gone beyond a limit of evaluation: its connection is being ended."""
        self.played = array(np.int64, TAG_COUNT)
        """Frames since the slot was taken, by who acted before them: nobody before the first one of
        an episode."""

    def take(
        self, streams: list[int], role: str, *, explores: bool = False
    ) -> npt.NDArray[np.int64]:
        """Rows for new slots with these stream numbers: the lowest that are free, so that those in
        use stay close together. `explores`: though it is no training."""
        free = np.flatnonzero(~self.taken[: self.high_water])[: len(streams)]
        more = np.arange(self.high_water, self.high_water + len(streams) - len(free))
        rows = np.concatenate([free, more])
        self.high_water += len(more)
        self.used += len(rows)
        self.taken[rows] = True
        self.stream[rows] = streams
        self.role[rows] = number = ROLES[role]
        self.by_role[number] += len(rows)
        self.explores[rows] = explores or number == TRAIN
        self.policy[rows] = 0
        self.pending[rows] = False
        self.linked[rows] = False
        self.actor[rows] = NOBODY
        self.played[rows] = 0
        self.frames_left[rows] = 0
        self.episode_return[rows] = 0
        self.episode_length[rows] = 0
        self.episodes[rows] = 0
        self.filled[rows] = 0
        self.taken_over[rows] = False
        self.limited[rows] = False
        return rows

    def play_as(self, rows: npt.NDArray[np.int64], role: str) -> None:
        """These slots, in which no episode is under way, play in this role from now on."""
        number = ROLES[role]
        for before in self.role[rows].tolist():
            self.by_role[before] -= 1
        self.role[rows] = number
        self.explores[rows] = number == TRAIN
        self.by_role[number] += len(rows)
        self.episodes[rows] = 0

    def give_back(self, rows: npt.NDArray[np.int64]) -> None:
        """The slots of these rows are gone."""
        self.used -= len(rows)
        for role, n in enumerate(np.bincount(self.role[rows], minlength=len(ROLES)).tolist()):
            self.by_role[role] -= n
        self.taken[rows] = False

    def shrink(self) -> bool:
        """Give memory back where far fewer rows are in use than were; whether it was."""
        in_use = np.flatnonzero(self.taken[: self.high_water])
        needed = int(in_use[-1]) + 1 if len(in_use) else 0
        if self.high_water <= FEW_SLOTS or needed > self.high_water // 4:
            return False
        self.high_water = needed
        self.memory.give_back(needed)
        return True
