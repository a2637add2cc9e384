"""The parts of the reward: what each earned each actor in training."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.decision import TRAIN
from protocol.actor import ACTORS, TAG_COUNT
from protocol.spaces import GameSpec
from server.gateway.frame_batch import FrameBatch
from server.gateway.slots import SlotTable


class RewardParts:
    """Sums since they were last taken. Of a game with one part it counts nothing: that one is the
    reward."""

    def __init__(self, spec: GameSpec, weights: npt.NDArray[np.float32]) -> None:
        """`weights` [parts]: of `reward.weights`."""
        self._names = spec.rewards if len(spec.rewards) > 1 else ()
        self._weights = weights.astype(np.float64)
        self._sums = np.zeros((TAG_COUNT, len(self._names)))
        self._steps = np.zeros(TAG_COUNT)

    def add(
        self,
        table: SlotTable,
        batch: FrameBatch,
        rows: npt.NDArray[np.int64],
        pending: npt.NDArray[np.bool_],
    ) -> None:
        """The frames of this batch (of slots `rows` [n]) complete those before (`pending` [n]).
        `table.actor` is who acted since then."""
        if not self._names:
            return
        stored = pending & (table.role[rows] == TRAIN)
        acted = table.actor[rows]
        for actor in ACTORS:
            of_actor = stored & (acted == actor)
            self._sums[actor] += of_actor @ batch.rewards[: batch.n]
            self._steps[actor] += np.count_nonzero(of_actor)

    def take(self) -> tuple[dict[str, npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
        """By part, what it earned each actor [TAG_COUNT]; and the steps of each [TAG_COUNT]."""
        sums, steps = self._sums * self._weights, self._steps
        self._sums, self._steps = np.zeros_like(sums), np.zeros(TAG_COUNT)
        return {name: sums[:, at] for at, name in enumerate(self._names)}, steps
