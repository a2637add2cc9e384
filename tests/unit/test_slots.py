from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from agent.decision import EVAL, EVAL_EXPERT, PLAY, TRAIN
from protocol.spaces import GameSpec, Observation
from server.gateway.slots import SlotTable
from tests.support.worlds import SPEC

MOST = 2048


def resident_bytes() -> int:
    """What this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_take_gives_distinct_rows_with_cleared_state() -> None:
    table = SlotTable(SPEC, MOST)
    rows = table.take([10, 11, 12], "train")
    assert len(set(rows.tolist())) == 3
    assert table.stream[rows].tolist() == [10, 11, 12]
    assert table.used == 3
    table.pending[rows] = True
    table.linked[rows] = True
    table.episode_return[rows] = 5
    table.episode_length[rows] = 5
    table.frames_left[rows] = 5
    table.give_back(rows)
    assert table.used == 0
    again = table.take([20, 21, 22], "eval")
    assert sorted(again.tolist()) == sorted(rows.tolist())
    assert not table.pending[again].any()
    assert not table.linked[again].any()
    assert not table.frames_left[again].any()
    assert not table.episode_return[again].any()
    assert not table.episode_length[again].any()
    assert table.stream[again].tolist() == [20, 21, 22]


def test_take_stores_role_as_number() -> None:
    table = SlotTable(SPEC, MOST)
    roles = {"train": TRAIN, "eval": EVAL, "eval_expert": EVAL_EXPERT, "play": PLAY}
    for name, number in roles.items():
        rows = table.take([1], name)
        assert table.role[rows].tolist() == [number]


def test_by_role_counts_slots_taken_and_given_back() -> None:
    table = SlotTable(SPEC, MOST)
    train, evaluated = table.take([1, 2, 3], "train"), table.take([4, 5], "eval")
    table.take([6], "eval_expert")
    assert table.by_role == {TRAIN: 3, EVAL: 2, EVAL_EXPERT: 1, PLAY: 0}
    table.give_back(evaluated)
    table.give_back(train[:1])
    assert table.by_role == {TRAIN: 2, EVAL: 0, EVAL_EXPERT: 1, PLAY: 0}
    table.play_as(train[1:2], "eval")
    assert table.by_role == {TRAIN: 1, EVAL: 1, EVAL_EXPERT: 1, PLAY: 0}
    assert table.role[train[1:]].tolist() == [EVAL, TRAIN]
    table.give_back(train[1:])
    assert table.by_role == {TRAIN: 0, EVAL: 0, EVAL_EXPERT: 1, PLAY: 0}


def test_take_again_leaves_rows_of_earlier_slots_unchanged() -> None:
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


def test_take_and_give_back_10_000_times_reuses_rows() -> None:
    table = SlotTable(SPEC, MOST)
    kept = table.take([1], "train")
    for i in range(10_000):
        rows = table.take([i * 3, i * 3 + 1, i * 3 + 2], "train")
        table.give_back(rows)
    assert table.high_water == 4
    assert table.stream[kept].tolist() == [1]


# Memory that is given back.


def test_take_after_give_back_uses_lowest_rows_first() -> None:
    table = SlotTable(SPEC, MOST)
    rows = table.take(list(range(40)), "train")
    table.give_back(rows[[30, 3, 17]])
    assert table.take([1, 2], "train").tolist() == [3, 17]
    assert table.take([1, 2], "train").tolist() == [30, 40]


def test_shrink_frees_rows_above_highest_used() -> None:
    table = SlotTable(SPEC, MOST)
    first = table.take(list(range(20)), "train")
    rest = table.take(list(range(100, 1180)), "train")
    table.stream[first[0]] = 77
    table.give_back(rest[1:])
    assert table.shrink()
    assert table.high_water == 21
    assert table.stream[first[0]] == 77
    again = table.take(list(range(60)), "train")
    assert len({*first.tolist(), int(rest[0]), *again.tolist()}) == 81
    table.give_back(np.concatenate([first, rest[:1], again]))
    assert table.shrink()
    assert table.high_water == 0
    # One that holds a high row keeps what is below it.
    high = table.take(list(range(100)), "train")[-1:]
    table.give_back(np.arange(99))
    assert not table.shrink()
    assert table.high_water == 100
    table.give_back(high)
    assert table.shrink()
    # A few rows are not worth it.
    table.give_back(table.take(list(range(64)), "train"))
    assert not table.shrink()


@pytest.mark.promise("memory-returned")
def test_slot_table_resident_memory_follows_rows_written() -> None:
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
