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


def stored(*sizes: int, frame_stack: int = 1) -> tuple[RowStore, StepBlock, int]:
    """A store after blocks of one stream, all rows that were written, and the oldest serial."""
    store, table = RowStore(SPEC, CAPACITY, torch.device("cpu"), frame_stack), StreamTable()
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
def test_rows_are_read_back_from_their_places_round_the_end(sizes: tuple[int, ...]) -> None:
    store, rows, oldest = stored(*sizes)
    kept, total = rows.rows(oldest, len(rows)), len(rows)
    at = places(oldest, total)
    stream, seq = store.identify(at)
    assert stream.tolist() == kept.stream.tolist()
    assert seq.tolist() == kept.seq.tolist()
    assert np.array_equal(store.observations(torch.from_numpy(at)).flatten(1), kept.obs)
    assert np.array_equal(store.action.numpy()[at], kept.action)
    meta = store.meta_rows(at)
    for name in ("reward", "actor", "status", "kind"):
        assert np.array_equal(meta[name], getattr(kept, name)), name
    assert meta["next"].tolist() == [*range(oldest + 1, total), NONE]
    assert store.oldest.item() == oldest
    store.check_valid(at, oldest)


def test_a_block_links_the_last_step_of_the_block_before_it() -> None:
    store, _, _ = stored(3)
    assert store.meta_rows(places(2, 3))["next"].tolist() == [NONE]
    store, _, _ = stored(3, 1)
    assert store.meta_rows(places(2, 3))["next"].tolist() == [3]


def test_stacks_begin_with_the_oldest_frame_that_is_still_there() -> None:
    store, rows, oldest = stored(9, 9, frame_stack=3)
    assert oldest == 6
    found = store.observations(torch.from_numpy(places(6, 9))).flatten(2)
    for stack, serials in zip(found, [(6, 6, 6), (6, 6, 7), (6, 7, 8)], strict=True):
        assert np.array_equal(stack, rows.obs[list(serials)])
    store.check_valid(places(6, 18), oldest)


def test_bytes_are_those_of_the_columns() -> None:
    one, stacked = stored(3)[0].nbytes, stored(3, frame_stack=2)[0].nbytes
    row = SPEC.observation_size * SPEC.observation_dtype.itemsize + 4 * SPEC.action_width
    assert one == CAPACITY * (row + 16 + 8 + 4)
    assert stacked == one + CAPACITY * 8


def test_a_link_that_is_wrong_is_noticed() -> None:
    store, _, oldest = stored(9)
    store.meta[3, 0] += 1
    with pytest.raises(AssertionError, match="gap"):
        store.check_valid(places(0, 9), oldest)
