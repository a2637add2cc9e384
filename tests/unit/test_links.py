"""Which rows are linked, one case at a time."""

from __future__ import annotations

import numpy as np
import pytest

from agent.links import NONE, Links, StreamTable
from agent.step import FINAL, STEP, StepBlock
from protocol.messages import RUNNING, TERMINATED, TRUNCATED
from tests.support.replay_model import SPEC


def block(*rows: tuple[int, int, int, int]) -> StepBlock:
    """Rows of (stream, seq, kind, status)."""
    out = StepBlock.empty(SPEC, len(rows))
    for name, column in zip(
        ("stream", "seq", "kind", "status"), zip(*rows, strict=True), strict=True
    ):
        getattr(out, name)[:] = column
    return out


def step(stream: int, seq: int, status: int = RUNNING) -> tuple[int, int, int, int]:
    return stream, seq, STEP, status


def final(stream: int, seq: int) -> tuple[int, int, int, int]:
    return stream, seq, FINAL, RUNNING


def links_of(
    table: StreamTable, first: int, *rows: tuple[int, int, int, int], oldest: int = 0
) -> Links:
    return table.link(block(*rows), first, oldest)


CASES = {
    "the next frame": ((step(1, 4), step(1, 5)), True),
    "the next frame, seq going round": ((step(1, 2**32 - 1), step(1, 0)), True),
    "a gap": ((step(1, 4), step(1, 6)), False),
    "the same frame again": ((step(1, 4), step(1, 4)), False),
    "a frame that goes back": ((step(1, 4), step(1, 3)), False),
    "another stream": ((step(1, 4), step(2, 5)), False),
    "the final row of a truncation": ((step(1, 4, TRUNCATED), final(1, 5)), True),
    "the final row of a termination": ((step(1, 4, TERMINATED), final(1, 5)), True),
    "the final row of a disconnect": ((step(1, 4), final(1, 5)), True),
    "a final row behind a gap": ((step(1, 4), final(1, 6)), False),
    "the next episode after a truncation": ((step(1, 4, TRUNCATED), step(1, 5)), False),
    "the next episode after a termination": ((step(1, 4, TERMINATED), step(1, 5)), False),
    "the next episode after a final row": ((final(1, 4), step(1, 5)), False),
    "a final row after a final row": ((final(1, 4), final(1, 5)), False),
}


@pytest.mark.parametrize("case", CASES)
def test_link_two_rows_in_one_block(case: str) -> None:
    (earlier, later), linked = CASES[case]
    links = links_of(StreamTable(), 10, earlier, later)
    assert links.next.tolist() == [11 if linked else NONE, NONE]
    assert len(links.earlier) == 0


def test_previous_gives_preceding_row_of_each_row() -> None:
    table = StreamTable()
    assert links_of(table, 10, step(1, 4), step(2, 7)).previous(10).tolist() == [NONE, NONE]
    links = links_of(table, 12, step(2, 8), step(3, 0), step(1, 5), step(2, 9), final(3, 1))
    assert links.previous(12).tolist() == [11, NONE, 10, 12, 13]
    assert links_of(table, 17, step(2, 11), step(1, 6)).previous(17).tolist() == [NONE, 14]


@pytest.mark.parametrize("case", CASES)
def test_link_two_rows_in_two_blocks(case: str) -> None:
    (earlier, later), linked = CASES[case]
    table = StreamTable()
    links_of(table, 10, earlier)
    links = links_of(table, 11, later)
    assert links.next.tolist() == [NONE]
    assert links.earlier.tolist() == ([10] if linked else [])
    assert links.earlier_next.tolist() == ([11] if linked else [])


def test_link_interleaved_streams_keeps_order_per_stream() -> None:
    table = StreamTable()
    links_of(table, 0, step(7, 0), step(3, 0), step(5, 0))
    links = links_of(table, 3, step(5, 1), step(7, 1), step(5, 2), step(7, 2), step(7, 3))
    assert links.next.tolist() == [5, 6, NONE, 7, NONE]
    assert dict(zip(links.earlier.tolist(), links.earlier_next.tolist(), strict=True)) == {
        0: 4,
        2: 3,
    }
    links = links_of(table, 8, step(3, 1))
    assert (links.earlier.tolist(), links.earlier_next.tolist()) == ([1], [8])


@pytest.mark.parametrize(("oldest", "linked"), [(10, True), (11, False)])
def test_link_to_overwritten_step_is_left_out(oldest: int, linked: bool) -> None:
    table = StreamTable()
    links_of(table, 10, step(1, 4))
    links = links_of(table, 11, step(1, 5), oldest=oldest)
    assert links.earlier.tolist() == ([10] if linked else [])


def test_stream_table_holds_only_open_streams() -> None:
    table = StreamTable()
    links_of(table, 0, step(1, 0), step(2, 0), final(2, 1), step(3, 0, TRUNCATED))
    assert len(table) == 2, "stream 1 is running, stream 3 waits for its final row"
    links_of(table, 4, final(3, 1), step(1, 1))
    assert len(table) == 1


def test_stream_table_drops_streams_once_overwritten() -> None:
    table, capacity = StreamTable(), 50
    for serial in range(1000):
        links_of(table, serial, step(serial, 0), oldest=serial + 1 - capacity)
        assert len(table) <= capacity
    assert len(table) == capacity


def test_link_random_rows_matches_dict_reference() -> None:
    """Against a dict of the newest row of each stream, the obvious way to do it."""
    rng, capacity = np.random.default_rng(2), 40
    table, newest = StreamTable(), {}
    first = 0
    for _ in range(60):
        n = int(rng.integers(1, 30))
        rows = [
            (int(s), int(q), int(k), int(t))
            for s, q, k, t in zip(
                rng.integers(0, 4, n),
                rng.integers(0, 3, n),
                rng.choice([STEP, STEP, STEP, FINAL], n),
                rng.choice([0, 0, 0, 1, 2], n),
                strict=True,
            )
        ]
        oldest = first + n - capacity
        want = {}
        for serial, (stream, seq, kind, status) in enumerate(rows, first):
            if stream in newest:
                before, seq_before, kind_before, status_before = newest[stream]
                follows = seq == seq_before + 1 and kind_before == STEP and before >= oldest
                if follows and (status_before == RUNNING or kind == FINAL):
                    want[before] = serial
            newest[stream] = (serial, seq, kind, status)
        links = links_of(table, first, *rows, oldest=oldest)
        got = dict(zip(links.earlier.tolist(), links.earlier_next.tolist(), strict=True))
        got |= {first + i: int(to) for i, to in enumerate(links.next) if to != NONE}
        assert got == want
        first += n
