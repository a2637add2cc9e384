"""A run is resumed with fewer learners, or with more: every row stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from agent import journal
from agent.evidence import Evidence
from agent.journal import Journal, Position
from agent.learner import Learner
from agent.replay import Replay
from agent.source import Origin, Source
from agent.step import STEP, StepBlock
from server.trainer.ingest import Rewards
from server.trainer.replay_journal import TakenIn, take_in
from server.trainer.restore import Restored
from server.trainer.shard_folders import folder_of, taken_over
from tests.support.replay_model import SPEC, Games, block_of, make

pytestmark = pytest.mark.promise("cluster-reshard")

CAPACITY = 4000


class Noting:
    """Keeps which observations a learner is shown."""

    def __init__(self) -> None:
        self.seen = 0

    def observe(self, obs: Any) -> None:
        self.seen += len(obs)


def played(gateway: int, versions: range) -> StepBlock:
    """Rows of one gateway's games, decided by these weights."""
    block = block_of(Games(seed=gateway).play_at_random(300))
    block.stream[:] += gateway << 40
    block.policy_version[:] = np.linspace(versions.start, versions.stop, len(block), dtype=np.int64)
    return block


def write(
    run: Path, learner: int, gateway: int, start: int, versions: range, capacity: int = CAPACITY
) -> StepBlock:
    """Rows of a gateway in a learner's journal, behind what it has, as of the run's n-th start."""
    rows = played(gateway + 10 * start, versions)
    folder = folder_of(run, learner) / journal.FOLDER
    at = Position()
    for each in journal.read(folder, SPEC, []) if folder.exists() else ():
        at = each.end
    writer = Journal(folder, SPEC, capacity, at)
    for first in range(0, len(rows), 16):
        block = rows.rows(first, min(first + 16, len(rows)))
        writer.append(block, Origin(Source(gateway, start), first))
    writer.close()
    return rows


def taken_in(
    run: Path, rank: int, learners: int, capacity: int = CAPACITY
) -> tuple[Replay, TakenIn, Noting]:
    own = folder_of(run, rank)
    replay, learner = make("uniform", capacity), Noting()
    others = [each / journal.FOLDER for each in taken_over(own, rank, learners)]
    kept = take_in(
        own / journal.FOLDER, replay, cast(Learner, learner), Evidence(), 0, others=others
    )
    replay.check_valid()
    return replay, kept, learner


def begin(run: Path, kept: TakenIn) -> None:
    """The start is accepted."""
    Restored(0, 0, [], kept, None, Rewards(0.0)).begin(run, 0)


def rows_of(*replays: Replay) -> list[tuple[int, int]]:
    found = [replay._rows.identify(replay._places_by_age()) for replay in replays]
    return pairs(*found)


def keys(*blocks: StepBlock) -> list[tuple[int, int]]:
    return pairs(*((block.stream, block.seq) for block in blocks))


def pairs(*columns: tuple[Any, Any]) -> list[tuple[int, int]]:
    return sorted(
        pair for each in columns for pair in zip(*(c.tolist() for c in each), strict=True)
    )


def steps(*blocks: StepBlock) -> int:
    return sum(int(np.count_nonzero(block.kind == STEP)) for block in blocks)


def test_one_learner_then_two_then_one_has_every_row_and_counts_each_step_once(
    tmp_path: Path,
) -> None:
    first = write(tmp_path, 0, 0, 1, range(10))
    alone, kept, _ = taken_in(tmp_path, 0, 1)
    assert rows_of(alone) == keys(first)

    second = [write(tmp_path, n, n, 2, range(10, 20)) for n in range(2)]
    halves = [taken_in(tmp_path, n, 2) for n in range(2)]
    assert rows_of(*(replay for replay, _, _ in halves)) == keys(first, *second)
    assert sum(kept.at.steps for _, kept, _ in halves) == steps(first, *second)
    assert not any(kept.of_others for _, kept, _ in halves)

    again, kept, learner = taken_in(tmp_path, 0, 1)
    assert rows_of(again) == keys(first, *second)
    assert kept.of_others == steps(second[1])
    assert kept.at.steps + kept.of_others == steps(first, *second)
    assert learner.seen == len(first) + len(second[0]), "the other learner saw its own"
    assert (kept.sources.missing, kept.sources.doubled) == (0, 0)

    third = write(tmp_path, 0, 0, 3, range(20, 30))
    halves = [taken_in(tmp_path, n, 2) for n in range(2)]
    assert rows_of(*(replay for replay, _, _ in halves)) == keys(first, *second, third)
    assert sum(kept.at.steps for _, kept, _ in halves) == steps(first, *second, third)


def test_rows_that_older_weights_decided_on_are_taken_in_first(tmp_path: Path) -> None:
    old = write(tmp_path, 0, 0, 1, range(10))
    new = write(tmp_path, 1, 1, 1, range(20, 30))
    replay, _, _ = taken_in(tmp_path, 0, 1)
    streams, seqs = replay._rows.identify(replay._places_by_age())
    assert streams.tolist() == [*old.stream.tolist(), *new.stream.tolist()]
    assert seqs.tolist() == [*old.seq.tolist(), *new.seq.tolist()]


def test_learner_takes_over_those_whose_numbers_it_is_told(tmp_path: Path) -> None:
    for number in range(1, 6):
        folder_of(tmp_path, number)
    (tmp_path / "learners" / "notes").mkdir()
    run = tmp_path

    def numbers(rank: int, learners: int) -> list[str]:
        return [each.name for each in taken_over(folder_of(run, rank), rank, learners)]

    assert numbers(0, 1) == ["1", "2", "3", "4", "5"]
    assert (numbers(0, 2), numbers(1, 2)) == (["2", "4"], ["3", "5"])
    assert [numbers(rank, 6) for rank in range(6)] == [[]] * 6


def test_files_of_a_learner_that_is_no_more_go_once_none_of_their_rows_is_in_the_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SMALLEST_SEGMENT", 64)
    gone = [write(tmp_path, 1, 1, start, range(10 * start, 10 * start + 10)) for start in (1, 2)]
    theirs = folder_of(tmp_path, 1) / journal.FOLDER
    files = journal.segments(theirs)
    _, kept, _ = taken_in(tmp_path, 0, 1)
    begin(tmp_path, kept)
    assert journal.segments(theirs) == files, "all of their rows are in the replay"
    own = write(tmp_path, 0, 0, 3, range(30, 40))
    capacity = len(own) + len(gone[1]) // 2

    replay, kept, _ = taken_in(tmp_path, 0, 1, capacity)
    assert journal.segments(theirs) == files, "the start may still be refused"
    begin(tmp_path, kept)
    left = journal.segments(theirs)
    assert files[0] not in left
    assert left == files[-len(left) :], "the newest stay"
    again, once_more, _ = taken_in(tmp_path, 0, 1, capacity)
    assert rows_of(again) == rows_of(replay), "and with them all rows that the replay had"
    assert once_more.of_others == kept.of_others == steps(*gone), "the run is as old as before"

    write(tmp_path, 0, 0, 4, range(40, 50), len(own))
    _, kept, _ = taken_in(tmp_path, 0, 1, len(own))
    begin(tmp_path, kept)
    assert journal.segments(theirs) == files[-1:], "which says how many rows there were"
    _, kept, _ = taken_in(tmp_path, 0, 1, len(own))
    assert kept.of_others == steps(*gone)
    back = write(tmp_path, 1, 1, 5, range(50, 60))
    replay, kept, _ = taken_in(tmp_path, 1, 2)
    assert keys(back)[-1] in rows_of(replay)
    assert kept.at.steps == steps(*gone, back), "a learner of that number goes on behind them"
