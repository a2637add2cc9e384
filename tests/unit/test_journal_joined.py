"""A journal read in large blocks holds what it holds block by block, however small those are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from agent import journal, journal_joined
from agent.journal import Damage, Journal, Position
from agent.journal_joined import read_joined
from agent.source import Origin, Source
from agent.step import StepBlock
from tests.support.replay_model import SPEC, Games, blocks_of


def write(
    folder: Path, sizes: Sequence[int], *, rows: int = 600, at: Position | None = None
) -> Position:
    writer = Journal(folder, SPEC, 100_000, at or Position())
    for number, block in enumerate(blocks_of(Games(seed=len(sizes)).play_at_random(rows), sizes)):
        source = Source(number % 3, 2**32 - 1)
        writer.append(block, Origin(source, 2**40 + 7 * writer.at.rows))
    writer.close()
    return writer.at


def columns(block: StepBlock) -> dict[str, np.ndarray]:
    return {name: getattr(block, name).copy() for name in StepBlock.__slots__}


def both(folder: Path, *, numbered: bool = True) -> tuple[list[Damage], int]:
    """Compare the two ways of reading; the damage that both found, and the number of parts."""
    one_by_one: list[Damage] = []
    joined: list[Damage] = []
    blocks = list(journal.read(folder, SPEC, one_by_one))
    expected = {
        name: np.concatenate([getattr(each.rows, name) for each in blocks])
        for name in StepBlock.__slots__
    }
    begins = {each.at: len(each.rows) for each in blocks}
    ends = {each.end: len(each.rows) for each in blocks}
    origins = iter(blocks)
    parts = []
    for part in read_joined(folder, SPEC, joined):
        assert part.at in begins
        assert ends[part.end] == part.lengths[-1]
        for told, length in zip(part.origins.tolist(), part.lengths.tolist(), strict=True):
            block = next(origins)
            assert (tuple(told), length) == (
                (*block.origin.source, block.origin.first),
                len(block.rows),
            )
            if numbered:
                assert block.origin.source.incarnation == 2**32 - 1
                assert block.origin.first == 2**40 + 7 * block.at.rows
        parts.append(columns(part.rows))
    for name, column in expected.items():
        got = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(got, column, name)
    assert joined == one_by_one
    return joined, len(parts)


@pytest.mark.parametrize(
    "sizes", [(1,), (7,), (1, 2), (3, 1, 30, 1, 90), (64,), (100, 1), (300,), (5000,)]
)
def test_joined_rows_equal_the_blocks(tmp_path: Path, sizes: Sequence[int]) -> None:
    write(tmp_path, sizes)
    damages, parts = both(tmp_path)
    assert not damages
    assert parts == 1


def test_joined_rows_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_joined, "TOGETHER", 50)
    write(tmp_path, (1, 20, 80))
    assert both(tmp_path)[1] > 10


@pytest.mark.parametrize("gap", [0, 5])
def test_rows_are_joined_within_a_file_and_not_over_a_gap(tmp_path: Path, gap: int) -> None:
    """Rows that could not be written are missing from the journal."""
    at = write(tmp_path, (1,))
    writer = Journal(tmp_path, SPEC, 100_000, at)
    for block in blocks_of(Games(seed=9).play_at_random(100), (1,)):
        if writer.at.rows == at.rows + 50:
            writer.at = Position(writer.at.rows + gap, writer.at.steps + gap)
        writer.append(block)
    writer.close()
    assert both(tmp_path, numbered=False) == ([], 3 if gap else 2)


@pytest.mark.promise("damaged-rows")
def test_damage_costs_joined_rows_its_block_alone(tmp_path: Path) -> None:
    write(tmp_path, (1, 5), rows=60)
    (path,) = journal.segments(tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    found = 0
    for at in [*rng.integers(1500, len(whole), 100).tolist(), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        found += len(both(tmp_path)[0])
        path.write_bytes(whole[:at])
        both(tmp_path)
    assert found > 50


def test_observations_that_look_like_a_header_are_read(tmp_path: Path) -> None:
    writer = Journal(tmp_path, SPEC, 100_000, Position())
    for block in blocks_of(Games(seed=1).play_at_random(40), (4,)):
        block.obs.view(np.uint8)[:] = np.resize(np.frombuffer(b"ROW2", np.uint8), block.obs.nbytes)[
            : block.obs.nbytes
        ].reshape(block.obs.view(np.uint8).shape)
        writer.append(block)
    writer.close()
    assert both(tmp_path, numbered=False) == ([], 1)
