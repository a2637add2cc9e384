"""Files of version 1 of the replay's format are read, whatever the newest version is."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent import journal
from agent.journal import Damage, Journal, Position, read
from agent.step import StepBlock
from protocol.spaces import GameSpec

ROOT = Path(__file__).parents[2]
GOLDEN: dict[str, Any] = json.loads((ROOT / "tests/golden/replay-1.json").read_text())
SPEC = msgspec.json.decode(json.dumps(GOLDEN["spec"]), type=GameSpec).checked()
COLUMNS = ("obs", "action", "reward", "stream", "seq", "actor", "kind", "status")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in GOLDEN["files"].items():
        (tmp_path / name).write_bytes(bytes.fromhex(data))
    return tmp_path


def test_read_version_1_equals_golden_rows(folder: Path) -> None:
    damages: list[Damage] = []
    found = list(read(folder, SPEC, damages))
    assert damages == []
    assert [(each.at.rows, each.at.steps) for each in found] == [
        tuple(at) for at in GOLDEN["positions"]
    ]
    rows = StepBlock.joined([each.rows for each in found])
    for name, column in zip(COLUMNS, zip(*GOLDEN["rows"], strict=True), strict=True):
        np.testing.assert_array_equal(getattr(rows, name), np.array(column), name)


def test_current_writer_appends_to_version_1_journal(folder: Path) -> None:
    damages: list[Damage] = []
    found = list(read(folder, SPEC, damages))
    writer = Journal(folder, SPEC, 1000, found[-1].end)
    writer.append(found[0].rows)
    writer.close()
    again = list(read(folder, SPEC, damages))
    assert damages == []
    assert [len(each.rows) for each in again] == [3, 2, 1, 3]
    assert again[-1].at == found[-1].end == Position(6, 5)


def test_golden_journal_equals_script_output() -> None:
    script = runpy.run_path(str(ROOT / "scripts/make_golden_replay.py"))
    assert script["text"]() == (ROOT / "tests/golden/replay-1.json").read_text()


@pytest.mark.skipif(journal.VERSION != 1, reason="only a writer of version 1 writes these bytes")
def test_write_version_1_equals_golden_bytes(folder: Path, tmp_path: Path) -> None:
    """Bytes that change without their version would be misread by others."""
    written = tmp_path / "written"
    damages: list[Damage] = []
    for blocks in (list(read(folder, SPEC, damages))[:2], list(read(folder, SPEC, damages))[2:]):
        writer = Journal(written, SPEC, 1000, blocks[0].at)
        for each in blocks:
            writer.append(each.rows)
        writer.close()
    for name, data in GOLDEN["files"].items():
        assert (written / name).read_bytes().hex() == data
