"""Files of every version of the replay's format are read, whatever the newest version is."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent import journal, journal_format
from agent.journal import Damage, Journal, JournalError, Position, read
from agent.journal_joined import read_joined
from agent.step import LATER, StepBlock
from protocol.spaces import GameSpec
from tests.support.worlds import assert_same_rows

ROOT = Path(__file__).parents[2]
VERSIONS = [1, 2]
GOLDEN: dict[int, dict[str, Any]] = {
    version: json.loads((ROOT / f"tests/golden/replay-{version}.json").read_text())
    for version in VERSIONS
}
SPEC = msgspec.json.decode(json.dumps(GOLDEN[1]["spec"]), type=GameSpec).checked()
COLUMNS = ("obs", "action", "reward", "stream", "seq", "actor", "kind", "status")


def files(folder: Path, version: int) -> Path:
    for name, data in GOLDEN[version]["files"].items():
        (folder / name).write_bytes(bytes.fromhex(data))
    return folder


def golden_rows(version: int) -> StepBlock:
    rows = GOLDEN[version]["rows"]
    block = StepBlock.empty(SPEC, len(rows))
    for i, row in enumerate(rows):
        for name, value in zip((*COLUMNS, *LATER), row, strict=False):
            getattr(block, name)[i] = np.nan if value is None else value
    return block


def rows_of(folder: Path) -> StepBlock:
    damages: list[Damage] = []
    found = StepBlock.joined([each.rows for each in read(folder, SPEC, damages)])
    assert damages == []
    for each in read_joined(folder, SPEC, damages):
        assert_same_rows(each.rows, found.rows(each.at.rows, each.end.rows))
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_read_equals_golden_rows(tmp_path: Path, version: int) -> None:
    folder = files(tmp_path, version)
    found = list(read(folder, SPEC, []))
    positions = [tuple(at) for at in GOLDEN[version]["positions"]]
    assert [(each.at.rows, each.at.steps) for each in found] == positions
    assert_same_rows(rows_of(folder), golden_rows(version))


@pytest.mark.parametrize("version", VERSIONS)
def test_current_writer_appends_to_the_journal_of_each_version(
    tmp_path: Path, version: int
) -> None:
    folder = files(tmp_path, version)
    damages: list[Damage] = []
    found = list(read(folder, SPEC, damages))
    writer = Journal(folder, SPEC, 1000, found[-1].end)
    writer.append(golden_rows(2).rows(0, 3))
    writer.close()
    again = list(read(folder, SPEC, damages))
    assert damages == []
    assert [len(each.rows) for each in again] == [3, 2, 1, 3]
    assert again[-1].at == found[-1].end == Position(6, 5)
    assert_same_rows(again[-1].rows, golden_rows(2).rows(0, 3))


@pytest.mark.parametrize("version", VERSIONS)
def test_golden_journal_equals_script_output(version: int) -> None:
    script = runpy.run_path(str(ROOT / "scripts/make_golden_replay.py"))
    assert script["text"](version) == (ROOT / f"tests/golden/replay-{version}.json").read_text()


def test_write_equals_the_golden_bytes_of_its_version(tmp_path: Path) -> None:
    """Bytes that change without their version would be misread by others."""
    written = tmp_path / "written"
    found = list(read(files(tmp_path, journal.VERSION), SPEC, []))
    for blocks in (found[:2], found[2:]):
        writer = Journal(written, SPEC, 1000, blocks[0].at)
        for each in blocks:
            writer.append(each.rows)
        writer.close()
    for name, data in GOLDEN[journal.VERSION]["files"].items():
        assert (written / name).read_bytes().hex() == data


# Columns of other versions.


def write_with_columns(
    folder: Path, monkeypatch: pytest.MonkeyPatch, columns: list[Any], row_bytes: int
) -> None:
    """A segment that tells of these columns, with a block of two rows of so many bytes."""
    with monkeypatch.context() as patch:
        patch.setattr(journal_format, "columns_written", lambda *_: columns)
        head = journal_format.segment_header(SPEC)
    payload = bytes(range(1, 2 * row_bytes + 1)).ljust(-(-2 * row_bytes // 16) * 16, b"\0")
    block = journal_format.block_header(2, Position(), [memoryview(payload)]) + payload
    folder.mkdir(exist_ok=True)
    (folder / "000001.rows").write_bytes(head + block)


def test_unknown_column_is_passed_over_and_a_missing_one_reads_as_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [
        column for column in journal_format.columns_written(SPEC, 2) if column[0] != "recommended"
    ]
    more = [known[0], ("novelty", "<u2", (3,)), *known[1:]]
    write_with_columns(tmp_path, monkeypatch, more, 8 + 6 + 8 + 8 + 4 + 4 + 4 + 3)
    found = rows_of(tmp_path)
    assert len(found) == 2
    assert np.isnan(found.recommended).all()
    # Behind 16 bytes of `stream` and 12 of the unknown column.
    assert found.obs.tobytes() == bytes(range(29, 45))


@pytest.mark.parametrize(
    "change",
    [
        lambda columns: columns[1:],
        lambda columns: [*columns, columns[0]],
        lambda columns: [("stream", "<i4", ()), *columns[1:]],
        lambda columns: [*columns, ("x", "|O", ())],
        lambda columns: [*columns, ("x", "nonsense", ())],
        lambda columns: [*columns, ("x", "<f4", (-1,))],
    ],
    ids=["missing", "twice", "other dtype", "objects", "no dtype", "negative"],
)
def test_columns_that_are_none_of_the_game_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    columns = change(journal_format.columns_written(SPEC, 2))
    write_with_columns(tmp_path, monkeypatch, columns, 16)
    with pytest.raises(JournalError, match="expected"):
        list(read(tmp_path, SPEC, []))


def test_rows_behind_a_damaged_segment_header_are_read(tmp_path: Path) -> None:
    path = files(tmp_path, 2) / "000001.rows"
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)
    damages: list[Damage] = []
    found = StepBlock.joined([each.rows for each in read(tmp_path, SPEC, damages)])
    assert [damage.start for damage in damages] == [0]
    assert_same_rows(found, golden_rows(2))
