"""The journal: what was appended is read back; damage costs the block that has it, and no more."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from agent import journal
from agent.journal import Damage, Journal, JournalError, Position, read
from agent.priority import SavedPriorities
from agent.step import STEP, StepBlock
from protocol.spaces import GameSpec
from tests.support.endless_writer import BLOCK_ROWS, endless
from tests.support.replay_model import PIXELS, SPEC, Games, blocks_of

ROOT = Path(__file__).parents[2]

START = Position()


def blocks(rows: int = 200, sizes: Sequence[int] = (7, 1, 30), seed: int = 0) -> list[StepBlock]:
    return list(blocks_of(Games(seed=seed).play_at_random(rows), sizes))


def write(folder: Path, given: Sequence[StepBlock], at: Position = START, **more: int) -> Position:
    writer = Journal(folder, SPEC, more.get("capacity", 100_000), at)
    for block in given:
        writer.append(block)
    writer.close()
    return writer.at


def read_back(
    folder: Path, spec: GameSpec = SPEC
) -> tuple[list[tuple[Position, bytes]], list[Damage]]:
    """What is there, as plain data, and what is damaged."""
    damages: list[Damage] = []
    found = [(stored.at, plain(stored.rows)) for stored in read(folder, spec, damages)]
    return found, damages


def plain(block: StepBlock) -> bytes:
    return b"".join(np.ascontiguousarray(getattr(block, n)).tobytes() for n in StepBlock.__slots__)


def only(folder: Path) -> Path:
    (path,) = journal.segments(folder)
    return path


def test_journal_reads_back_appended_blocks_in_order_with_positions(tmp_path: Path) -> None:
    given = blocks()
    end = write(tmp_path, given)
    found, damages = read_back(tmp_path)
    assert [data for _, data in found] == [plain(block) for block in given]
    assert not damages
    rows = np.cumsum([0, *map(len, given)])
    steps = np.cumsum([0, *(int((block.kind == STEP).sum()) for block in given)])
    counted = [Position(int(r), int(s)) for r, s in zip(rows, steps, strict=True)]
    assert [at for at, _ in found] == counted[:-1]
    assert end == counted[-1]


def test_journal_reopened_appends_behind_the_last_block(tmp_path: Path) -> None:
    first, second = blocks(seed=1), blocks(seed=2)
    middle = write(tmp_path, first)
    end = write(tmp_path, second, middle)
    found, damages = read_back(tmp_path)
    assert [data for _, data in found] == [plain(block) for block in [*first, *second]]
    assert found[len(first)][0] == middle
    assert end.rows == sum(map(len, [*first, *second]))
    assert not damages


@pytest.mark.promise("kill-all")
def test_killed_writer_loses_no_appended_block(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.endless_writer", str(tmp_path / "j")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout
        said = [child.stdout.readline() for _ in range(300)]
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
    acknowledged = int([line for line in said if line.endswith(b"\n")][-1])
    found, damages = read_back(tmp_path / "j")
    assert len(found) * BLOCK_ROWS >= acknowledged >= 1500
    expected = [plain(block) for block in itertools.islice(endless(), len(found))]
    assert [data for _, data in found] == expected
    assert len(damages) <= 1


@pytest.mark.parametrize("cut", [1, 40, 63, 64, 65, 200])
@pytest.mark.promise("damaged-rows")
def test_incomplete_block_is_the_only_one_dropped(tmp_path: Path, cut: int) -> None:
    given = blocks(60, (20,))
    write(tmp_path, given)
    path = only(tmp_path)
    last = headers_in(path.read_bytes())[-1]
    os.truncate(path, last + cut)
    found, (damage,) = read_back(tmp_path)
    assert [data for _, data in found] == [plain(block) for block in given[:-1]]
    assert (damage.path, damage.start) == (path, last)
    assert damage.rows == (len(given[-1]) if cut >= 64 else None)
    # And the next start writes behind it.
    write(tmp_path, given[:1], Position(1000, 900))
    found, (damage,) = read_back(tmp_path)
    assert found[-1] == (Position(1000, 900), plain(given[0]))


def headers_in(data: bytes) -> list[int]:
    return [at for at in range(0, len(data), 16) if data[at : at + 4] == b"ROW2"]


@pytest.mark.promise("damaged-rows")
def test_flipped_bit_costs_only_its_block(tmp_path: Path) -> None:
    given = blocks(100, (9, 4))
    write(tmp_path, given)
    path = only(tmp_path)
    whole = path.read_bytes()
    headers = headers_in(whole)
    assert len(headers) == len(given)
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        found, damages = read_back(tmp_path)
        kept = {data for _, data in found}
        lost = [i for i, block in enumerate(given) if plain(block) not in kept]
        hit = next((i for i in reversed(range(len(given))) if headers[i] <= at), None)
        assert lost in ([], [hit]), f"byte {at}"
        # Only where nothing is kept (padding, the segment's own header) may it go unnoticed.
        assert damages or not lost
        assert len(found) == len(given) - len(lost)


def test_damaged_length_does_not_hide_later_blocks(tmp_path: Path) -> None:
    given = blocks(60, (20,))
    write(tmp_path, given)
    path = only(tmp_path)
    whole = bytearray(path.read_bytes())
    first = headers_in(bytes(whole))[0]
    whole[first + 4 : first + 8] = b"\xff\xff\xff\x7f"
    path.write_bytes(whole)
    found, (damage,) = read_back(tmp_path)
    assert [data for _, data in found] == [plain(block) for block in given[1:]]
    assert "an unknown number of rows" in str(damage)
    assert str(path) in str(damage)


def test_damaged_or_empty_segment_is_reported_and_others_are_read(tmp_path: Path) -> None:
    given = blocks(40, (40,))
    at = write(tmp_path, given)
    write(tmp_path, given, at)
    first, second = journal.segments(tmp_path)
    first.write_bytes(b"\0" * 1000)
    second.rename(tmp_path / "000003.rows")
    (tmp_path / "000002.rows").touch()
    found, damages = read_back(tmp_path)
    assert [data for _, data in found] == [plain(given[0])]
    assert [damage.path.name for damage in damages] == ["000001.rows", "000002.rows"]


@pytest.mark.promise("foreign-rows")
def test_journal_of_another_game_or_newer_version_is_refused(tmp_path: Path) -> None:
    write(tmp_path, blocks(10))
    with pytest.raises(JournalError, match=r"rows of another game.*start a new run"):
        read_back(tmp_path, PIXELS)
    path = only(tmp_path)
    data = bytearray(path.read_bytes())
    data[8] += 1
    path.write_bytes(data)
    with pytest.raises(JournalError, match=r"expected version 2 or earlier .*got 3"):
        read_back(tmp_path)


def test_segment_without_a_row_of_another_game_is_passed_over(tmp_path: Path) -> None:
    """Of a game that was proposed, and with which the whole server was killed before it began."""
    Journal(tmp_path, PIXELS, 100_000, START).close()
    assert read_back(tmp_path)[0] == []
    write(tmp_path, blocks())
    assert len(read_back(tmp_path)[0]) == len(blocks())


def test_segments_are_deleted_once_the_replay_has_none_of_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SMALLEST_SEGMENT", 10)
    capacity = 160
    given = blocks(1000, (5,))
    at = START
    for part in (given[:150], given[150:]):  # a restart changes nothing
        at = write(tmp_path, part, at, capacity=capacity)
    found, damages = read_back(tmp_path)
    kept = sum(len(data) for _, data in found) / len(plain(given[0])) * 5
    assert not damages
    assert at.rows - capacity - 20 <= found[0][0].rows <= at.rows - capacity
    assert capacity <= kept <= capacity + 25
    assert len(journal.segments(tmp_path)) > 10


def test_segments_of_large_rows_have_fewer_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 4000)
    write(tmp_path, blocks(200, (5,)))
    sizes = [path.stat().st_size for path in journal.segments(tmp_path)]
    assert len(sizes) > 3
    assert max(sizes) < 8000


@pytest.mark.promise("rows-unwritable")
def test_full_disk_costs_only_the_rows_that_did_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = blocks(60, (10,))
    writer = Journal(tmp_path, SPEC, 100_000, START)
    writer.append(given[0])
    real, full = os.pwritev, [True]

    def pwritev(file: int, parts: list[memoryview], at: int) -> int:
        if not full[0]:
            return real(file, parts, at)
        if len(parts) > 1:  # the header still fits
            return real(file, parts[:1], at)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwritev", pwritev)
    with pytest.raises(OSError, match="No space left"):
        writer.append(given[1])
    full[0] = False
    writer.append(given[2])
    writer.close()
    found, damages = read_back(tmp_path)
    assert [data for _, data in found] == [plain(given[0]), plain(given[2])]
    assert [at.rows for at, _ in found] == [0, 20]  # what is missing is counted
    assert not damages


def test_segment_that_could_not_be_created_is_created_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SMALLEST_SEGMENT", 10)
    given = blocks(60, (10,))
    writer = Journal(tmp_path, SPEC, 100, START)
    writer.append(given[0])
    real, full = os.pwritev, [True]

    def pwritev(file: int, parts: list[memoryview], at: int) -> int:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, parts, at)

    monkeypatch.setattr(os, "pwritev", pwritev)
    for block in given[1:3]:
        with pytest.raises(OSError, match="No space left"):
            writer.append(block)
    full[0] = False
    writer.append(given[3])
    writer.close()
    found, damages = read_back(tmp_path)
    assert [data for _, data in found] == [plain(given[0]), plain(given[3])]
    assert not damages


@pytest.mark.promise("damaged-priorities")
def test_priorities_are_read_back_or_absent_if_damaged(tmp_path: Path) -> None:
    assert journal.read_priorities(tmp_path) is None
    stream, seq = np.arange(5), np.arange(5, dtype=np.uint32)
    values = np.linspace(0, 3, 5, dtype=np.float32)
    saved = SavedPriorities(stream, seq, values, np.array(3.5, np.float32))
    journal.write_priorities(tmp_path, saved)
    found = journal.read_priorities(tmp_path)
    assert found
    assert all(np.array_equal(a, b) for a, b in zip(found, saved, strict=True))
    path = tmp_path / journal.PRIORITIES
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(values.tobytes()) + 5] ^= 8
    for damaged in (whole[:-1], whole[:10], b"", bytes(flipped)):
        path.write_bytes(damaged)
        assert journal.read_priorities(tmp_path) is None
    journal.write_priorities(tmp_path, saved._replace(seq=seq[:3]))
    assert journal.read_priorities(tmp_path) is None


def test_journal_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    write(tmp_path / "replay", blocks(10))
    assert (tmp_path / "replay").stat().st_mode & 0o777 == 0o700
    assert only(tmp_path / "replay").stat().st_mode & 0o777 == 0o600
