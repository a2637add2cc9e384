"""The trainer's intake over sources that send rows again: each row is stored once and in order, in
replay and journal, whichever side is restarted when."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from agent import journal
from agent.evidence import Evidence
from agent.journal import Position
from agent.learner import Learner
from agent.replay import Replay
from agent.source import NextRows, Origin, Source
from agent.step import STEP, StepBlock
from server.trainer.ingest import Ingest, Rewards
from server.trainer.replay_journal import JournalWriter
from tests.support.replay_model import SPEC, Games, block_of, make

CAPACITY = 4000


class Sent:
    """A gateway's rows as a stream brings them that does not know what arrived: a block begins at
    any row that was not given back for good."""

    capacity = CAPACITY

    def __init__(self, gateway: int, rows: StepBlock, rng: random.Random) -> None:
        self.source = Source(gateway, 2)
        self._rows, self._rng = rows, rng
        self._at = self._most = 0

    @property
    def origin(self) -> Origin:
        return Origin(self.source, self._at)

    @property
    def used(self) -> int:
        return len(self._rows) - self._at

    @property
    def steps(self) -> int:
        return int(np.count_nonzero(self._rows.kind == STEP))

    @property
    def steps_read(self) -> int:
        return int(np.count_nonzero(self._rows.kind[: self._at] == STEP))

    answered = steps

    def read(self, limit: int) -> StepBlock | None:
        size = self._rng.randint(1, 40)
        stop = min(self._at + min(size, limit), len(self._rows))
        return self._rows.rows(self._at, stop) if stop > self._at else None

    def release(self, n: int) -> None:
        self._most = max(self._most, self._at + n)
        # The acknowledgement is lost at times, and then much is sent again.
        back = self._rng.choice([0, 0, 0, 30]) if self._most < len(self._rows) else 0
        self._at = max(self._at + n - back, 0)

    def take_over_reading(self, n: int) -> None:
        self._at += n

    def skip(self, n: int) -> None:
        self._at += n

    def close(self) -> None:
        pass


def played(seed: int) -> StepBlock:
    block = block_of(Games(seed=seed).play_at_random(300))
    block.stream[:] += seed << 40
    return block


class Intake:
    """A trainer's replay and files, without a learner."""

    def __init__(self, folder: Path, sources: list[Sent], at: Position | None = None) -> None:
        class Blind:
            def observe(self, obs: Any) -> None:
                pass

        self.replay: Replay = make("uniform", CAPACITY)
        self.writer = JournalWriter(folder, SPEC, CAPACITY, at or Position(), resume=True)
        blind = cast(Learner, Blind())
        self.ingest = Ingest(sources, self.replay, blind, Evidence(), Rewards(), self.writer, None)

    def until_empty(self) -> None:
        for _ in range(1000):
            if not self.ingest.drain():
                return
        raise AssertionError("expected the sources to be empty, rows still come")


def assert_each_once(folder: Path, rows: list[StepBlock]) -> None:
    found = [each.rows for each in journal.read(folder, SPEC, [])]
    whole = StepBlock.joined(found)
    for number, each in enumerate(rows):
        mine = whole.stream >> 40 == number + 1
        np.testing.assert_array_equal(whole.stream[mine], each.stream)
        np.testing.assert_array_equal(whole.seq[mine], each.seq)
    assert len(whole) == sum(map(len, rows))
    numbers = journal.next_rows(folder, SPEC)
    assert (numbers.missing, numbers.doubled) == (0, 0)


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_are_sent_again_are_stored_once(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    rows = [played(1), played(2)]
    sources = [Sent(number, block, rng) for number, block in enumerate(rows)]
    intake = Intake(tmp_path, sources)
    intake.until_empty()
    steps = sum(source.steps for source in sources)
    assert intake.ingest.stored == steps == len(intake.replay)
    intake.writer.close()
    assert_each_once(tmp_path, rows)


@pytest.mark.parametrize("seed", range(4))
def test_intake_that_is_replaced_goes_on_by_its_files(tmp_path: Path, seed: int) -> None:
    """Killed between the writing of a block and its release, again and again."""
    rng = random.Random(seed)
    rows = [played(1), played(2)]
    sources = [Sent(number, block, rng) for number, block in enumerate(rows)]
    at, numbers = Position(), NextRows()
    for _ in range(12):
        intake = Intake(tmp_path, sources, at)
        intake.ingest.take_over(numbers)
        source = rng.choice(sources)
        for _ in range(rng.randint(1, 3)):
            block = source.read(40)
            if block is not None:
                intake.ingest._take(block, source.origin)
        at = intake.writer._journal.at
        intake.writer.close()
        numbers = journal.next_rows(tmp_path, SPEC)
    intake = Intake(tmp_path, sources, at)
    intake.ingest.take_over(numbers)
    intake.until_empty()
    intake.writer.close()
    assert_each_once(tmp_path, rows)


def test_hole_in_what_comes_is_logged_in_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Sent(3, played(1), random.Random(0))
    source.skip(7)
    intake = Intake(tmp_path, [source])
    with caplog.at_level(logging.WARNING, "trainer"):
        intake.until_empty()
    intake.writer.close()
    assert caplog.messages == [
        "rows 0 to 6 of gateway 3 of start 2 are missing: expected row 0 next, got row 7"
    ]


@pytest.mark.parametrize("synced", [True, False])
def test_row_is_let_go_of_once_the_disk_has_it_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: bool
) -> None:
    source = Sent(0, played(1), random.Random(0))
    intake = Intake(tmp_path, [source])
    intake.writer._synced = synced
    at: list[int] = []
    monkeypatch.setattr(journal.os, "fdatasync", lambda _: at.append(source._most))
    intake.until_empty()
    intake.writer.close()
    assert bool(at) == synced
    assert at[:1] in ([], [0]), "before the first release"
