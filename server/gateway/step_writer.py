"""From answered frames to steps: which rows go to the ring, and when."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from agent.decision import TRAIN
from agent.step import StepBlock
from protocol.spaces import GameSpec
from server.gateway.frame_batch import FrameBatch
from server.gateway.pending_steps import PendingSteps
from server.gateway.rewards import RewardFunction
from server.gateway.slots import SlotTable


class StepSink(Protocol):
    """Where steps go: a ring in shared memory here, another machine elsewhere."""

    answered: int
    """Frames answered for training so far, complete or not: what the writer says of itself."""

    @property
    def free(self) -> int:
        """Rows that can be written now."""

    def write(self, block: StepBlock) -> None:
        """Append a block that fits."""


class StepWriter:
    """Makes steps of the frames in training, and hands them to a sink."""

    def __init__(
        self,
        spec: GameSpec,
        reward: RewardFunction,
        sink: StepSink,
        most_slots: int,
        in_flight: npt.NDArray[np.int64],
        memory: int = 0,
    ) -> None:
        """`in_flight` [2]: where completed steps and answered frames are counted
        (server.ipc.inflight). `memory`: numbers of the network's recurrent state."""
        self._reward = reward
        self._sink = sink
        self._pending_steps = PendingSteps(spec, most_slots, memory)
        self._in_flight = in_flight
        self.stored = int(in_flight[0])
        """Steps that were completed."""
        self._open = 0
        """Frames that were answered and that the next one is to complete."""

    @property
    def full(self) -> bool:
        """Steps wait for room in the sink."""
        return len(self._pending_steps) > 0

    def complete(
        self,
        table: SlotTable,
        batch: FrameBatch,
        rows: npt.NDArray[np.int64],
        status: npt.NDArray[np.uint8],
        pending: npt.NDArray[np.bool_],
        over: npt.NDArray[np.bool_] | None,
    ) -> None:
        """The frames of this batch (of slots `rows` [n], with `status` [n]) complete those before
        (`pending` [n]), which become steps.
        `over` [n]: those that end an episode; None where none does."""
        n = batch.n
        stored = pending & (table.role[rows] == TRAIN)
        kept = rows[stored]
        reward = batch.earned[:n][stored]
        self._reward.clip(reward)
        self._pending_steps.steps(table, kept, reward, status[stored])
        self.stored += len(kept)
        self._open -= len(kept)
        table.linked[kept] = True
        if over is not None:
            last = over & stored
            self._pending_steps.finals(
                table, rows[last], batch.obs[:n][last], batch.seq[:n][last], batch.legal[:n][last]
            )
            table.linked[rows[over]] = False

    def answering(self, frames: int) -> None:
        """So many frames in training are about to be answered. Counted before anybody knows."""
        self._open += frames
        self._count()

    def truncate(self, table: SlotTable, rows: npt.NDArray[np.int64]) -> None:
        """The streams of these slots end in the middle of an episode: their pending frame is the
        last observation of it, and the step before bootstraps from there."""
        pending = table.pending[rows] & (table.role[rows] == TRAIN)
        ended = rows[pending & table.linked[rows]]
        if len(ended):
            obs, seq, legal = table.obs[ended], table.seq[ended], table.legal[ended]
            self._pending_steps.finals(table, ended, obs, seq, legal)
        self._open -= int(np.count_nonzero(pending))
        self._count()

    def flush(self) -> None:
        """Hand what waits to the sink, as far as there is room."""
        while self.full and (room := self._sink.free):
            block = self._pending_steps.waiting(room)
            self._sink.write(block)
            self._pending_steps.sent(len(block))

    def give_back(self) -> None:
        """Give all memory back. Only while nothing waits."""
        self._pending_steps.give_back()

    def _count(self) -> None:
        self._in_flight[0], self._in_flight[1] = self.stored, self._open
        self._sink.answered = self.stored + self._open
