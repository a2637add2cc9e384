from __future__ import annotations

import numpy as np
import pytest

from agent.step import FINAL, STEP
from protocol.spaces import GameSpec
from server.gateway.pending_steps import PendingSteps
from server.gateway.slots import SlotTable
from tests.support.worlds import DQN, PIXELS, SPEC

MOST = 2048


@pytest.mark.parametrize("spec", [SPEC, PIXELS])
def test_pending_steps_builds_step_and_final_rows(spec: GameSpec) -> None:
    table, pending_steps = SlotTable(spec, MOST), PendingSteps(spec, MOST)
    rows = table.take([100, 200], "train")
    table.obs[rows] = 3
    table.action[rows] = 1
    table.actor[rows] = DQN
    table.seq[rows] = [5, 6]
    pending_steps.steps(table, rows, np.array([0.5, -1], np.float32), np.array([0, 1], np.uint8))
    pending_steps.finals(
        table,
        rows[1:],
        np.full((1, spec.observation_size), 9),
        np.array([7], np.uint32),
        table.legal[rows[1:]],
    )
    block = pending_steps.waiting(100)
    assert len(block) == len(pending_steps) == 3
    assert block.kind.tolist() == [STEP, STEP, FINAL]
    assert block.stream.tolist() == [100, 200, 200]
    assert block.seq.tolist() == [5, 6, 7]
    assert block.actor.tolist() == [DQN, DQN, 0]
    assert block.reward.tolist() == [0.5, -1, 0]
    assert block.status.tolist() == [0, 1, 0]
    assert block.obs[:, 0].tolist() == [3, 3, 9]
    assert block.action[:, 0].tolist() == [1, 1, 0]


def test_pending_steps_sends_in_order_and_reuses_memory() -> None:
    table, pending_steps = SlotTable(SPEC, MOST), PendingSteps(SPEC, MOST)
    rows = table.take([1, 2, 3], "train")
    size = len(pending_steps._block)
    table.actor[rows] = DQN
    for turn in range(50):
        table.seq[rows] = turn
        pending_steps.steps(table, rows, np.zeros(3, np.float32), np.zeros(3, np.uint8))
        seen = []
        while len(pending_steps):
            block = pending_steps.waiting(2)
            seen += block.stream.tolist()
            pending_steps.sent(len(block))
        assert seen == [1, 2, 3]
    assert len(pending_steps._block) == size


def test_pending_steps_has_room_for_three_rows_per_slot() -> None:
    """A step and a final row each in a turn, and a final row more for one that disconnects."""
    table, pending_steps = SlotTable(SPEC, 16), PendingSteps(SPEC, 16)
    rows = table.take(list(range(16)), "train")
    pending_steps.steps(table, rows, np.zeros(16, np.float32), np.ones(16, np.uint8))
    for _ in range(2):
        pending_steps.finals(table, rows, table.obs[rows], table.seq[rows], table.legal[rows])
    assert len(pending_steps.waiting(1000)) == 48
