"""agent/row_store.py: rows come back from their places as they were written."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agent.links import NONE, StreamTable
from agent.row_store import RowStore
from agent.step import StepBlock
from protocol.actor import Actor
from tests.support.worlds import SPEC, numbered

CAPACITY = 12


def store_of_blocks(*sizes: int, frame_stack: int = 1) -> tuple[RowStore, StepBlock, int]:
    """A store after blocks of one stream, all rows that were written, and the oldest serial."""
    store, table = RowStore(SPEC, CAPACITY, torch.device("cpu"), [frame_stack]), StreamTable()
    first, blocks, oldest = 0, [], 0
    for size in sizes:
        block = numbered(SPEC, first, size)
        block.stream[:], block.seq[:] = 7, range(first, first + size)
        block.kind[:], block.actor[:], block.status[:] = 1, Actor.DQN, 0
        oldest = max(0, first + size - CAPACITY)
        store.write(block, table.link(block, first, oldest), first, oldest)
        blocks.append(block)
        first += size
    return store, StepBlock.joined(blocks), oldest


def places(first: int, stop: int) -> np.ndarray:
    return np.arange(first, stop) % CAPACITY


@pytest.mark.parametrize("sizes", [(5,), (12,), (7, 4), (9, 9), (12, 12, 1)])
def test_rows_written_around_the_end_are_read_back(sizes: tuple[int, ...]) -> None:
    store, rows, oldest = store_of_blocks(*sizes)
    kept, total = rows.rows(oldest, len(rows)), len(rows)
    at = places(oldest, total)
    stream, seq = store.identify(at)
    assert stream.tolist() == kept.stream.tolist()
    assert seq.tolist() == kept.seq.tolist()
    assert np.array_equal(store.observations(torch.from_numpy(at))[0].flatten(1), kept.obs)
    actions = np.hstack([kept.action, kept.recommended])
    np.testing.assert_array_equal(store.actions.numpy()[at], actions)
    assert np.array_equal(store.policy_versions(at), kept.policy_version)
    meta = store.meta_rows(at)
    for name in ("reward", "actor", "status", "kind"):
        assert np.array_equal(meta[name], getattr(kept, name)), name
    assert meta["next"].tolist() == [*range(oldest + 1, total), NONE]
    assert store.oldest.item() == oldest
    store.check_valid(at, oldest)


def test_write_links_last_step_of_previous_block() -> None:
    store, _, _ = store_of_blocks(3)
    assert store.meta_rows(places(2, 3))["next"].tolist() == [NONE]
    store, _, _ = store_of_blocks(3, 1)
    assert store.meta_rows(places(2, 3))["next"].tolist() == [3]


def test_frame_stack_starts_at_oldest_stored_frame() -> None:
    store, rows, oldest = store_of_blocks(9, 9, frame_stack=3)
    assert oldest == 6
    found = store.observations(torch.from_numpy(places(6, 9)))[0].flatten(2)
    for stack, serials in zip(found, [(6, 6, 6), (6, 6, 7), (6, 7, 8)], strict=True):
        assert np.array_equal(stack, rows.obs[list(serials)])
    store.check_valid(places(6, 18), oldest)


def test_nbytes_equals_sum_of_columns() -> None:
    one, stacked = store_of_blocks(3)[0].nbytes, store_of_blocks(3, frame_stack=2)[0].nbytes
    row = SPEC.observation_size * SPEC.observation_dtype.itemsize + 8 * SPEC.action_width
    assert one == CAPACITY * (row + 16 + 8 + 4 + 4)
    assert stacked == one + CAPACITY * 8


def test_check_valid_with_wrong_link_raises() -> None:
    store, _, oldest = store_of_blocks(9)
    store.meta[3, 0] += 1
    with pytest.raises(AssertionError, match="gap"):
        store.check_valid(places(0, 9), oldest)
