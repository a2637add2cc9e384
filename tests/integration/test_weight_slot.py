from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.ipc import weight_slot as weights_module
from server.ipc.weight_slot import WeightSlot

SIZE = 1000


pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def slot() -> Iterator[WeightSlot]:
    made = WeightSlot.create(SIZE)
    yield made
    made.close()
    made.unlink()


def vector(version: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A set of weights all of which tell its version."""
    return np.full(SIZE, version, np.float32)


def test_fetch_before_the_first_version_returns_nothing(slot: WeightSlot) -> None:
    out = vector(-1)
    assert (slot.version, slot.fetch(out)) == (0, 0)
    assert (out == -1).all()


def test_reader_gets_the_newest_version(slot: WeightSlot) -> None:
    reader = WeightSlot.attach(slot.name, SIZE)
    out = vector(-1)
    for version in range(1, 6):
        slot.publish(vector(version), version)
        assert reader.version == version
        assert reader.fetch(out) == version
        assert (out == version).all()
        assert reader.fetch(out) == version
    reader.close()


def test_versions_rise(slot: WeightSlot) -> None:
    slot.publish(vector(2), 2)
    for wrong in (0, 1, 2):
        with pytest.raises(ValueError, match=f"expected a version above 2, got {wrong}"):
            slot.publish(vector(wrong), wrong)
    assert slot.version == 2
    out = vector(-1)
    for version in (5, 7, 8):  # of a machine that does not get each
        slot.publish(vector(version), version)
        assert slot.fetch(out) == version
        assert (out == version).all()


def test_version_that_is_being_replaced_by_a_later_one_of_its_buffer_is_not_fetched(
    slot: WeightSlot,
) -> None:
    slot.publish(vector(2), 2)
    slot._counters[0] = 6  # begun, into the buffer of 2
    assert slot.fetch(vector(-1)) == 0


def test_resumed_run_continues_its_versions() -> None:
    slot = WeightSlot.create(SIZE, 41)
    try:
        slot.publish(vector(42), 42)
        out = vector(-1)
        assert slot.fetch(out) == 42
        assert (out == 42).all()
    finally:
        slot.close()
        slot.unlink()


def test_readers_see_the_base_frame_count(slot: WeightSlot) -> None:
    reader = WeightSlot.attach(slot.name, SIZE)
    assert reader.base_frames == 0
    slot.base_frames = 2**40
    assert reader.base_frames == 2**40
    reader.close()


class Interrupting:
    """Runs something in the middle of the n-th fence: the other process, as unlucky as can be."""

    def __init__(self, at: int, run: Any) -> None:
        self.left, self.run = at, run

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.run()


@pytest.mark.parametrize("published", [0, 1])
def test_slow_reader_gets_its_weights_while_the_writer_is_one_ahead(
    slot: WeightSlot, monkeypatch: pytest.MonkeyPatch, published: int
) -> None:
    slot.publish(vector(1), 1)
    out = vector(-1)

    def write() -> None:
        monkeypatch.setattr(weights_module, "fence", lambda: None)
        for version in range(2, 2 + published):
            slot.publish(vector(version), version)

    monkeypatch.setattr(weights_module, "fence", Interrupting(1, write))
    assert slot.fetch(out) == 1
    assert (out == 1).all()


@pytest.mark.parametrize("at", [1, 2])
def test_reader_overtaken_by_the_writer_gets_nothing(
    slot: WeightSlot, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    slot.publish(vector(1), 1)
    out = vector(-1)

    def write() -> None:
        monkeypatch.setattr(weights_module, "fence", lambda: None)
        slot.publish(vector(2), 2)
        slot.publish(vector(3), 3)

    monkeypatch.setattr(weights_module, "fence", Interrupting(at, write))
    assert slot.fetch(out) == 0
    assert slot.fetch(out) == 3
    assert (out == 3).all()


def test_weights_being_written_are_never_fetched(
    slot: WeightSlot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader in the middle of a publish gets the version before, complete."""
    slot.publish(vector(1), 1)
    seen = []

    def read() -> None:
        monkeypatch.setattr(weights_module, "fence", lambda: None)
        out = vector(-1)
        seen.append((slot.fetch(out), set(out.tolist())))

    for at in (1, 2):
        monkeypatch.setattr(weights_module, "fence", Interrupting(at, read))
        slot.publish(vector(slot.version + 1), slot.version + 1)
    assert seen == [(1, {1.0}), (2, {2.0})]


def test_reader_ignoring_the_counter_would_get_torn_weights(slot: WeightSlot) -> None:
    """The scene of the tests above is a real one: without the check the set is of two versions."""
    slot.publish(vector(1), 1)
    half = SIZE // 2
    out = vector(-1)
    out[:half] = slot._buffers[1][:half]
    slot.publish(vector(2), 2)
    slot.publish(vector(3), 3)
    out[half:] = slot._buffers[1][half:]
    assert set(out.tolist()) == {1.0, 3.0}


def test_second_writer_finds_the_published_weights(slot: WeightSlot) -> None:
    assert not WeightSlot.is_left("no-such-memory", SIZE)
    slot.base_frames = 77
    slot.publish(np.full(SIZE, 1.0, np.float32), 1)
    assert WeightSlot.is_left(slot.name, SIZE)
    left = WeightSlot.attach(slot.name, SIZE)
    assert (left.version, left.base_frames) == (1, 77)
    left.publish(np.full(SIZE, 2.0, np.float32), 2)
    out = np.empty(SIZE, np.float32)
    assert slot.fetch(out) == 2
    assert np.all(out == 2)
    left.close()


@pytest.mark.parametrize("state", ["unpublished", "empty"])
def test_unfinished_slot_of_a_dead_writer_is_removed(state: str) -> None:
    """It may have been killed at any moment: the name must be free for the next one."""
    name = f"left-{os.getpid()}"
    if state == "empty":
        Path("/dev/shm", name).touch()
    else:
        WeightSlot.create(SIZE, 41, name).close()
    assert not WeightSlot.is_left(name, SIZE)
    again = WeightSlot.create(SIZE, 41, name)
    again.publish(np.zeros(SIZE, np.float32), 42)
    again.close()
    again.unlink()


def test_writer_after_one_that_died_publishing_can_publish(
    slot: WeightSlot, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot.publish(np.full(SIZE, 1.0, np.float32), 1)

    def die() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(weights_module, "fence", die)
    with pytest.raises(KeyboardInterrupt):
        slot.publish(np.full(SIZE, 2.0, np.float32), 2)
    monkeypatch.undo()
    assert WeightSlot.is_left(slot.name, SIZE)
    left = WeightSlot.attach(slot.name, SIZE)
    out = np.empty(SIZE, np.float32)
    assert (left.version, slot.fetch(out)) == (1, 1)
    left.publish(np.full(SIZE, 3.0, np.float32), left.version + 1)
    assert slot.fetch(out) == 2
    assert np.all(out == 3)
    left.close()
