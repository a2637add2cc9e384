from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.decision import EVAL, EVAL_EXPERT, TRAIN
from agent.step import FINAL, STEP
from protocol.spaces import GameSpec, Observation
from server.gateway.slots import FrameBatch, FrameStacks, PendingSteps, SlotTable, slot_bytes
from tests.support.worlds import DQN, PIXELS, SPEC

MOST = 2048


def resident_bytes() -> int:
    """What this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_slots_get_rows_of_their_own_and_start_clean() -> None:
    table = SlotTable(SPEC, MOST)
    rows = table.take([10, 11, 12], "train")
    assert len(set(rows.tolist())) == 3
    assert table.stream[rows].tolist() == [10, 11, 12]
    assert table.used == 3
    table.pending[rows] = True
    table.linked[rows] = True
    table.episode_return[rows] = 5
    table.episode_length[rows] = 5
    table.left[rows] = 5
    table.give_back(rows)
    assert table.used == 0
    again = table.take([20, 21, 22], "eval")
    assert sorted(again.tolist()) == sorted(rows.tolist())
    assert not table.pending[again].any()
    assert not table.linked[again].any()
    assert not table.left[again].any()
    assert not table.episode_return[again].any()
    assert not table.episode_length[again].any()
    assert table.stream[again].tolist() == [20, 21, 22]


def test_roles_are_kept_as_numbers() -> None:
    table = SlotTable(SPEC, MOST)
    roles = {"train": TRAIN, "eval": EVAL, "eval_expert": EVAL_EXPERT}
    for name, number in roles.items():
        rows = table.take([1], name)
        assert table.role[rows].tolist() == [number]


def test_slots_are_counted_by_role() -> None:
    table = SlotTable(SPEC, MOST)
    train, evaluated = table.take([1, 2, 3], "train"), table.take([4, 5], "eval")
    table.take([6], "eval_expert")
    assert table.by_role == {TRAIN: 3, EVAL: 2, EVAL_EXPERT: 1}
    table.give_back(evaluated)
    table.give_back(train[:1])
    assert table.by_role == {TRAIN: 2, EVAL: 0, EVAL_EXPERT: 1}


def test_those_who_come_later_get_rows_of_their_own() -> None:
    table = SlotTable(SPEC, MOST)
    first = table.take(list(range(16)), "train")
    table.obs[first] = np.arange(48).reshape(16, 3)
    table.seq[first] = np.arange(16)
    second = table.take(list(range(100, 200)), "train")
    assert not set(first.tolist()) & set(second.tolist())
    assert table.obs[first].tolist() == np.arange(48).reshape(16, 3).tolist()
    assert table.seq[first].tolist() == list(range(16))
    assert table.stream[first].tolist() == list(range(16))
    assert table.used == 116


def test_memory_does_not_grow_over_10_000_connects() -> None:
    table = SlotTable(SPEC, MOST)
    kept = table.take([1], "train")
    for i in range(10_000):
        rows = table.take([i * 3, i * 3 + 1, i * 3 + 2], "train")
        table.give_back(rows)
    assert table.high == 4
    assert table.stream[kept].tolist() == [1]


def test_frames_can_be_dropped_from_the_middle() -> None:
    batch = FrameBatch(SPEC, 1, MOST)
    batch.n = 5
    batch.obs[:5, 0] = batch.rewards[:5, 0] = batch.seq[:5] = batch.row[:5] = np.arange(5)
    batch.keep(np.array([True, False, True, False, True]))
    assert batch.n == 3
    for column in (batch.obs[:3, 0], batch.rewards[:3, 0], batch.seq[:3], batch.row[:3]):
        assert column.tolist() == [0, 2, 4]


@pytest.mark.parametrize("spec", [SPEC, PIXELS])
def test_stacks_hold_the_last_frames_of_each_slot(spec: GameSpec) -> None:
    size = spec.observation_size
    stacks = FrameStacks(spec, 3, MOST)
    out = np.empty((2, 3 * size), spec.observation_dtype)
    nothing = np.zeros(2, np.bool_)

    def add(rows: list[int], values: list[int], first: list[bool] | None = None) -> None:
        obs = np.repeat(np.array(values, spec.observation_dtype), size).reshape(len(rows), size)
        begins = nothing[: len(rows)] if first is None else np.array(first)
        stacks.add(np.array(rows), obs, begins)

    def taken(*rows: int) -> list[list[int]]:
        stacks.take(np.array(rows), out[: len(rows)])
        frames = out[: len(rows)].reshape(len(rows), 3, size)
        assert (frames == frames[:, :, :1]).all(), "frames are mixed up"
        return frames[:, :, 0].tolist()

    add([0, 1], [1, 2], [True, True])
    assert taken(0, 1) == [[1, 1, 1], [2, 2, 2]]
    add([1], [3])
    assert taken(1, 0) == [[2, 2, 3], [1, 1, 1]]
    add([0, 1], [4, 5])
    add([0, 1], [6, 7], [True, False])
    assert taken(0, 1) == [[6, 6, 6], [3, 5, 7]]
    add([0, 1], [8, 9])
    assert taken(0, 1) == [[6, 6, 8], [5, 7, 9]]


@pytest.mark.parametrize("spec", [SPEC, PIXELS])
def test_the_outbox_makes_steps_and_final_rows(spec: GameSpec) -> None:
    table, pending_steps = SlotTable(spec, MOST), PendingSteps(spec, MOST)
    rows = table.take([100, 200], "train")
    table.obs[rows] = 3
    table.action[rows] = 1
    table.actor[rows] = DQN
    table.seq[rows] = [5, 6]
    pending_steps.steps(table, rows, np.array([0.5, -1], np.float32), np.array([0, 1], np.uint8))
    pending_steps.finals(
        table, rows[1:], np.full((1, spec.observation_size), 9), np.array([7], np.uint32)
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


def test_the_outbox_hands_out_in_order_and_is_used_again() -> None:
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


def test_the_outbox_has_room_for_all_that_its_slots_can_add() -> None:
    """A step and a final row each in a turn, and a final row more for one that disconnects."""
    table, pending_steps = SlotTable(SPEC, 16), PendingSteps(SPEC, 16)
    rows = table.take(list(range(16)), "train")
    pending_steps.steps(table, rows, np.zeros(16, np.float32), np.ones(16, np.uint8))
    for _ in range(2):
        pending_steps.finals(table, rows, table.obs[rows], table.seq[rows])
    assert len(pending_steps.waiting(1000)) == 48


# Memory that is given back.


def test_the_lowest_rows_are_taken_first() -> None:
    table = SlotTable(SPEC, MOST)
    rows = table.take(list(range(40)), "train")
    table.give_back(rows[[30, 3, 17]])
    assert table.take([1, 2], "train").tolist() == [3, 17]
    assert table.take([1, 2], "train").tolist() == [30, 40]


def test_a_table_gives_back_what_is_beyond_its_highest_row() -> None:
    table = SlotTable(SPEC, MOST)
    first = table.take(list(range(20)), "train")
    rest = table.take(list(range(100, 1180)), "train")
    table.stream[first[0]] = 77
    table.give_back(rest[1:])
    assert table.shrink()
    assert table.high == 21
    assert table.stream[first[0]] == 77
    again = table.take(list(range(60)), "train")
    assert len({*first.tolist(), int(rest[0]), *again.tolist()}) == 81
    table.give_back(np.concatenate([first, rest[:1], again]))
    assert table.shrink()
    assert table.high == 0
    # One that holds a high row keeps what is below it.
    high = table.take(list(range(100)), "train")[-1:]
    table.give_back(np.arange(99))
    assert not table.shrink()
    assert table.high == 100
    table.give_back(high)
    assert table.shrink()
    # A few rows are not worth it.
    table.give_back(table.take(list(range(64)), "train"))
    assert not table.shrink()


@pytest.mark.promise("memory-returned")
def test_memory_is_taken_by_what_is_written_alone() -> None:
    """As the system counts it, page by page: a crowd that says nothing takes next to none, and the
    memory of one that has gone is free again."""
    spec = GameSpec("g", Observation("float32", (1000,)), SPEC.actions)
    before = resident_bytes()
    table = SlotTable(spec, 100_000)
    rows = table.take(list(range(50_000)), "train")
    assert resident_bytes() - before < 40 * 2**20
    table.obs[rows[:20_000]] = 1.0
    full = resident_bytes()
    assert full - before > 80_000_000
    assert table.obs[19_999, 999] == 1.0
    table.give_back(rows[5:])
    assert table.shrink()
    assert full - resident_bytes() > 75_000_000
    assert table.obs[4, 999] == 1.0
    assert table.obs[19_999, 999] == 0.0


def test_bytes_of_a_slot_are_those_of_its_arrays() -> None:
    n = 1024
    for spec, stack in ((SPEC, 1), (PIXELS, 4)):
        holders: list[Any] = [SlotTable(spec, n), FrameBatch(spec, stack, n)]
        if stack > 1:
            holders.append(FrameStacks(spec, stack, n))
        held = sum(
            array.nbytes
            for holder in holders
            for name, array in vars(holder).items()
            if isinstance(array, np.ndarray) and name != "_order"
        )
        block = PendingSteps(spec, n)._block
        held += sum(getattr(block, name).nbytes for name in type(block).__slots__)
        assert slot_bytes(spec, stack) == pytest.approx(held / n, rel=0.05, abs=64)
