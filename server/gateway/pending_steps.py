"""Steps on their way from the slots to the ring."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from agent.step import FINAL, STEP, StepBlock
from protocol.spaces import GameSpec
from server.gateway.lazy_arrays import give_back, reserved
from server.gateway.slots import SlotTable

ROWS_PER_SLOT = 3
"""Rows of one slot that may wait: see PendingSteps."""


class PendingSteps:
    """A queue of rows: what a full ring does not take waits here.

    Bounded: while anything waits no turn is run, so that a slot adds at most a step, its final row,
    and one more final row if it disconnects meanwhile.
    """

    def __init__(self, spec: GameSpec, most: int, memory: int = 0) -> None:
        """`memory`: numbers of the network's recurrent state."""
        self._memory = reserved(StepBlock.nbytes(spec, ROWS_PER_SLOT * most, memory))
        self._block = StepBlock.over(self._memory, spec, ROWS_PER_SLOT * most, memory)
        self._masks, self._states = bool(spec.masks), memory > 0
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
        np.take(table.recommended, rows, axis=0, out=out.recommended, mode="clip")
        np.take(table.policy_version, rows, out=out.policy_version, mode="clip")
        np.take(table.actor, rows, out=out.actor, mode="clip")
        np.take(table.seq, rows, out=out.seq, mode="clip")
        np.take(table.stream, rows, out=out.stream, mode="clip")
        if self._masks:
            np.take(table.legal, rows, axis=0, out=out.legal, mode="clip")
        if self._states:
            np.take(table.state, rows, axis=0, out=out.state, mode="clip")
        out.reward[:] = reward
        out.status[:] = status
        out.kind[:] = STEP

    def finals(
        self,
        table: SlotTable,
        rows: npt.NDArray[np.int64],
        obs: npt.NDArray[Any],
        seq: npt.NDArray[np.uint32],
        legal: npt.NDArray[np.uint8],
    ) -> None:
        """Add last observations of these slots, which have no action. `legal`: what could have been
        done there, [n, legal_bytes]: values bootstrap from it."""
        out = self._reserve(len(rows))
        out.obs[:] = obs
        out.seq[:] = seq
        if self._masks:
            out.legal[:] = legal
        if self._states:
            out.state[:] = 0
        np.take(table.stream, rows, out=out.stream, mode="clip")
        out.action[:] = 0
        out.recommended[:] = np.nan
        out.policy_version[:] = 0
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
