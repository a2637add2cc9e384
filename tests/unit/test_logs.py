"""Lines of the log as they are shown."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from server.run import logs
from server.run.logs import LogFile, logged

LONG_MESSAGE = "127.0.0.1:35944: spec_mismatch: " + "expected this run's game, [catch]; " * 8


def console_lines(folder: Path, *, terminal: bool) -> list[str]:
    out = io.StringIO()
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    with logged(folder / "log", Console(file=out, width=80, force_terminal=terminal)) as file:
        file.begin()
        logging.getLogger("gateway").warning(LONG_MESSAGE)
    assert (root.level, root.handlers) == before
    return out.getvalue().splitlines()


def test_log_record_without_terminal_is_one_line(tmp_path: Path) -> None:
    (line,) = console_lines(tmp_path, terminal=False)
    assert line.endswith(f"WARNING gateway: {LONG_MESSAGE}")
    assert (tmp_path / "log").read_text().splitlines() == [line]


def test_log_record_in_terminal_is_wrapped_to_its_width(tmp_path: Path) -> None:
    assert len(console_lines(tmp_path, terminal=True)) > 3


@pytest.mark.promise("log-bounded")
def test_log_file_when_full_rotates_and_keeps_newest_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a client connects again: two files, neither much longer than the limit."""
    monkeypatch.setattr(logs, "LONGEST", 1000)
    handler = LogFile(tmp_path / "log")
    handler.begin()
    for number in range(500):
        handler.emit(logging.makeLogRecord({"msg": f"line {number}"}))
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names in (["log"], ["log", "log.1"], ["log.1"])
        assert all(path.stat().st_size < 1100 for path in tmp_path.iterdir())
    text = (tmp_path / "log.1").read_text() + (tmp_path / "log").read_text()
    kept = [int(line.split()[1]) for line in text.splitlines()]
    assert kept == list(range(kept[0], 500))
    assert len(kept) > 90
