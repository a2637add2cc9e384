"""Events of a run: what is in a line, how long the file becomes, and what a full disk does."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest

from server.run import events
from server.run.disk import Writes
from server.run.events import EVENTS, EventLog, of_supervisor, process_ids, read_events

DOCS = Path(__file__).parents[2] / "docs" / "operating.md"


def log_in(folder: Path) -> tuple[EventLog, Writes]:
    writes = Writes(logging.getLogger("test"), "serving goes on")
    events = EventLog(folder / "events.jsonl", writes)
    events.begin()
    return events, writes


def test_add_writes_json_line_with_time_name_and_fields(tmp_path: Path) -> None:
    log, _ = log_in(tmp_path)
    before = time.time()
    log.add("process_lost", process="gateway-0", how="died", exit_code=-9)
    log.add("stopping")
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert before <= first.pop("time") <= second.pop("time") <= time.time()
    assert first == {
        "event": "process_lost",
        "process": "gateway-0",
        "how": "died",
        "exit_code": -9,
    }
    assert second == {"event": "stopping"}
    assert [event["event"] for event in read_events(tmp_path)] == ["process_lost", "stopping"]


def test_read_events_missing_file_returns_empty(tmp_path: Path) -> None:
    assert read_events(tmp_path) == []


def test_add_unknown_event_or_wrong_fields_raises(tmp_path: Path) -> None:
    log, _ = log_in(tmp_path)
    with pytest.raises(ValueError, match="expected an event of"):
        log.add("exploded")
    with pytest.raises(ValueError, match="got restarting with"):
        log.add("restarting", process="trainer")
    assert not (tmp_path / "events.jsonl").exists()


def test_event_file_size_is_bounded_and_newest_events_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LONGEST", 1000)
    log, _ = log_in(tmp_path)
    for pid in range(200):
        log.add("process_started", process="trainer", pid=pid)
        assert all(path.stat().st_size < 1200 for path in tmp_path.iterdir())
    assert {path.name for path in tmp_path.iterdir()} <= {"events.jsonl", "events.1.jsonl"}
    found = [
        json.loads(line)["pid"]
        for name in ("events.1.jsonl", "events.jsonl")
        if (tmp_path / name).exists()
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert found == list(range(found[0], 200))
    assert len(found) > 8


def test_add_write_failure_is_counted_and_not_raised(
    tmp_path: Path,
) -> None:
    (tmp_path / "events.jsonl").mkdir()
    log, writes = log_in(tmp_path)
    log.add("stopping")
    assert writes.failed == 1
    (tmp_path / "events.jsonl").rmdir()
    log.add("stopped")
    assert [event["event"] for event in read_events(tmp_path)] == ["stopped"]


def test_of_supervisor_returns_events_since_its_newest_start(tmp_path: Path) -> None:
    log, _ = log_in(tmp_path)
    for launch, supervisor, trainer in ((1, 100, 101), (2, 200, 201)):
        log.add("starting", launch=launch, pid=supervisor)
        log.add("process_started", process="trainer", pid=trainer)
    log.add("process_started", process="gateway-0", pid=202)
    log.add("process_started", process="trainer", pid=203)
    found = read_events(tmp_path)
    assert process_ids(of_supervisor(found, 200)) == {"gateway-0": 202, "trainer": 203}
    assert of_supervisor(found, 100) == [], "it is no longer the newest"
    assert of_supervisor(found, 300) == [], "it has not begun yet"


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_and_field_is_documented(event: str) -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("|")]
    (row,) = [row for row in rows if f"`{event}`" in row.split("|")[1]]
    for field in EVENTS[event]:
        assert f"`{field}`" in row
