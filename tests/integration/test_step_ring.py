from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.step import FINAL, STEP, StepBlock
from protocol.spaces import GameSpec
from server.ipc import step_ring as ring_module
from server.ipc.step_ring import StepRing
from tests.support.worlds import PIXELS, SPEC, assert_same_rows, copied, joined, numbered

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def ring() -> Iterator[StepRing]:
    with closing(StepRing.create(SPEC, 8)) as made:
        yield made
        made.unlink()


def test_new_ring_is_empty(ring: StepRing) -> None:
    assert (ring.used, ring.free, ring.steps) == (0, 8, 0)
    assert ring.read(100) is None


def test_ring_returns_rows_as_written(ring: StepRing) -> None:
    block = numbered(SPEC, 0, 5)
    ring.write(block)
    assert (ring.used, ring.free) == (5, 3)
    got = ring.read(100)
    assert got is not None
    assert_same_rows(got, block)


def test_ring_frees_room_only_on_release(ring: StepRing) -> None:
    ring.write(numbered(SPEC, 0, 8))
    for _ in range(2):
        got = ring.read(3)
        assert got is not None
        assert got.seq.tolist() == [0, 1, 2]
    assert ring.free == 0
    ring.release(2)
    assert ring.free == 2
    got = ring.read(3)
    assert got is not None
    assert got.seq.tolist() == [2, 3, 4]


def test_second_reader_continues_behind_released_rows(ring: StepRing) -> None:
    rows = numbered(SPEC, 0, 40)
    rows.kind[:] = np.where(np.arange(40) % 5 == 4, FINAL, STEP)
    assert ring.steps_read == 0
    read = 0
    for start in range(0, 40, 8):
        ring.write(rows.rows(start, start + 8))
        assert ring.steps_read == np.count_nonzero(rows.kind[:read] == STEP)
        for n in (3, 5):
            if n == 3:
                ring.release(n)
            else:  # whoever had read these has died
                ring.take_over_reading(n)
            read += n
            assert ring.steps_read == np.count_nonzero(rows.kind[:read] == STEP)


def test_block_without_room_is_refused_whole(ring: StepRing) -> None:
    ring.write(numbered(SPEC, 0, 6))
    with pytest.raises(ValueError, match="expected at most 2 rows, got 3"):
        ring.write(numbered(SPEC, 6, 3))
    assert ring.used == 6
    ring.write(numbered(SPEC, 6, 2))
    got = ring.read(8)
    assert got is not None
    assert got.seq.tolist() == list(range(8))


def test_empty_block_changes_nothing(ring: StepRing) -> None:
    ring.write(numbered(SPEC, 0, 8))
    ring.write(numbered(SPEC, 8, 0))
    assert (ring.used, ring.free) == (8, 0)


def test_step_counter_counts_only_steps_and_never_falls(ring: StepRing) -> None:
    block = numbered(SPEC, 0, 8)
    steps = int(np.count_nonzero(block.kind == STEP))
    assert 0 < steps < 8
    ring.write(block)
    assert ring.steps == steps
    ring.release(8)
    assert ring.steps == steps


def test_read_stops_at_the_wraparound_and_continues_at_the_start(ring: StepRing) -> None:
    ring.write(numbered(SPEC, 0, 6))
    ring.release(6)
    ring.write(numbered(SPEC, 6, 5))
    first = ring.read(100)
    assert first is not None
    assert first.seq.tolist() == [6, 7]
    ring.release(2)
    second = ring.read(100)
    assert second is not None
    assert second.seq.tolist() == [8, 9, 10]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 12)),
        st.tuples(st.just("read"), st.integers(0, 12)),
    ),
    max_size=40,
)


@given(operations=OPERATIONS, capacity=st.integers(2, 9), spec=st.sampled_from([SPEC, PIXELS]))
def test_any_interleaving_of_reads_and_writes_keeps_rows_in_order(
    operations: list[tuple[str, int]], capacity: int, spec: GameSpec
) -> None:
    with closing(StepRing.create(spec, capacity)) as ring:
        try:
            _interleave(ring, spec, operations)
        finally:
            ring.unlink()


def _interleave(ring: StepRing, spec: GameSpec, operations: list[tuple[str, int]]) -> None:
    written: list[StepBlock] = []
    read: list[StepBlock] = []
    sent = got = 0
    for operation, n in operations:
        if operation == "write":
            block = numbered(spec, sent, n)
            if n > ring.capacity - (sent - got):
                with pytest.raises(ValueError, match="wait for the reader"):
                    ring.write(block)
                continue
            ring.write(block)
            written.append(block)
            sent += n
        elif (rows := ring.read(n)) is not None:
            assert 1 <= len(rows) <= n
            read.append(copied(rows))
            got += len(rows)
            ring.release(len(rows))
        else:
            assert n == 0 or sent == got
        assert (ring.used, ring.free) == (sent - got, ring.capacity - sent + got)
    expected = joined(written, spec)
    assert ring.steps == np.count_nonzero(expected.kind == STEP)
    assert_same_rows(joined(read, spec), expected.rows(0, got))


def test_interleaving_property_detects_rows_lost_at_the_wraparound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The test above turns red when the part behind the end is not written."""

    def without_the_tail(source: StepBlock, target: StepBlock) -> None:
        if len(source) != 2:  # of the second block one row fits before the end, two go round
            real(source, target)

    real = ring_module._copy
    monkeypatch.setattr(ring_module, "_copy", without_the_tail)
    operations = [("write", 3), ("read", 3), ("write", 3), ("read", 3), ("read", 3)]
    with closing(StepRing.create(SPEC, 4)) as ring:
        try:
            with pytest.raises(AssertionError):
                _interleave(ring, SPEC, operations)
        finally:
            ring.unlink()


ROWS = 50_000
CAPACITY = 700


def write_all(name: str) -> None:
    """The other process: writes ROWS rows in blocks of any size, as fast as there is room."""
    rng = np.random.default_rng(5)
    with closing(StepRing.attach(name, SPEC, CAPACITY)) as ring:
        written = 0
        while written < ROWS:
            n = min(int(rng.integers(1, 300)), ROWS - written, ring.free)
            if n:
                ring.write(numbered(SPEC, written, n))
                written += n


def test_ring_carries_rows_between_two_processes() -> None:
    ring = StepRing.create(SPEC, CAPACITY)
    writer = multiprocessing.get_context("spawn").Process(target=write_all, args=(ring.name,))
    writer.start()
    expected, deadline = 0, time.monotonic() + 60
    try:
        while expected < ROWS:
            block: Any = ring.read(400)
            if block is None:
                assert time.monotonic() < deadline, f"only {expected} rows came"
                assert writer.is_alive() or ring.used, "the writer is gone"
                continue
            numbers = np.arange(expected, expected + len(block))
            assert np.array_equal(block.seq, numbers)
            assert np.array_equal(block.stream, numbers << 20)
            assert np.array_equal(block.reward, numbers.astype(np.float32))
            assert np.array_equal(block.obs[:, -1], numbers % 251)
            assert np.array_equal(block.action[:, 0], numbers.astype(np.float32))
            expected += len(block)
            ring.release(len(block))
        writer.join(10)
        assert writer.exitcode == 0
    finally:
        block = None
        writer.kill()
        writer.join()
        writer.close()
        ring.close()
        ring.unlink()


def test_ring_without_enough_shared_memory_is_refused_at_creation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found out later, it would be a SIGBUS in the middle of a game."""

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("server.ipc.shared_memory.os.posix_fallocate", full)
    with pytest.raises(MemoryError, match=r"lower server\.ring_steps"):
        StepRing.create(SPEC, 1000)


def test_second_writer_continues_behind_the_first(ring: StepRing) -> None:
    ring.write(numbered(SPEC, 0, 6))
    steps = ring.steps
    ring.take_over()
    assert (ring.steps, ring.used) == (steps, 6)


class Dying:
    """The counters of a ring, for a writer who dies before the last one."""

    def __init__(self, counters: Any) -> None:
        self.counters = counters

    def __getitem__(self, key: int) -> Any:
        return self.counters[key]

    def __setitem__(self, key: int, value: Any) -> None:
        if key == ring_module._WRITTEN:
            raise InterruptedError
        self.counters[key] = value


def test_unfinished_block_of_a_dead_writer_is_not_read(ring: StepRing) -> None:
    """It died between the counters: of steps, and of rows."""
    ring.write(numbered(SPEC, 0, 3))
    steps, dying = ring.steps, Dying(ring._counters)
    ring._counters = dying  # type: ignore[assignment]
    with contextlib.suppress(InterruptedError):
        ring.write(numbered(SPEC, 3, 3))
    ring._counters = dying.counters
    del dying.counters
    assert ring.steps > steps, "it has died too early"
    ring.take_over()
    assert (ring.steps, ring.used) == (steps, 3)
    ring.write(numbered(SPEC, 3, 3))
    got = ring.read(8)
    assert got is not None
    assert got.seq.tolist() == list(range(6))
    del got


def test_answered_frames_of_a_writer_that_died_are_those_in_the_ring(ring: StepRing) -> None:
    ring.write(numbered(SPEC, 0, 6))
    assert ring.answered == ring.steps > 0, "a writer that says nothing has answered its steps"
    ring.answered = ring.steps + 9
    assert ring.answered == ring.steps + 9
    ring.take_over()
    assert ring.answered == ring.steps, "the others are lost with it"


def test_session_counter_continues_for_later_writers(ring: StepRing) -> None:
    assert [ring.count_session() for _ in range(3)] == [0, 1, 2]
    with closing(StepRing.attach(ring.name, SPEC, 8)) as another:
        assert another.count_session() == 3
