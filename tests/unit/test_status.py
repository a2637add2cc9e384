"""The snapshot that a server shows of itself, and how it is replaced."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.models import Config
from server.monitor import status_publisher as publishing
from server.monitor.collector import TurnHistogram
from server.monitor.status import ALIVE_S, COLUMNS
from server.monitor.status_publisher import StatusPublisher
from server.run.evaluations import Evaluation
from server.run.metrics_log import MetricsLog


def folder_of(path: Path) -> Any:
    return SimpleNamespace(
        path=path,
        launch=2,
        rows=MetricsLog(path / "metrics.jsonl"),
        changes=path / "changes.jsonl",
        starts=path / "starts.jsonl",
    )


@pytest.fixture
def publisher(tmp_path: Path) -> StatusPublisher:
    return StatusPublisher(Config(), folder_of(tmp_path))


def evaluation(frames: int) -> Evaluation:
    return Evaluation(1.0, frames, (1, 2), (3.0, 5.0), 4.0, (), None, False)


def test_status_cannot_be_changed(publisher: StatusPublisher) -> None:
    with pytest.raises(FrozenInstanceError):
        publisher.status.paused = True  # type: ignore[misc]


def test_update_unknown_field_is_refused(publisher: StatusPublisher) -> None:
    with pytest.raises(TypeError):
        publisher.update(nothing=1)


def test_update_leaves_older_snapshots_unchanged(publisher: StatusPublisher) -> None:
    publisher.add_row(
        {"time": 1.0, "frames": 10.0}, {"frames": 10.0}, TurnHistogram(), [{"session": 1}]
    )
    publisher.add_evaluation(evaluation(5))
    publisher.add_changes([{"key": "a"}])
    publisher.add_restart("trainer", "died")
    publisher.add_start({"launch": 2})
    before = publisher.status
    kept = before.state() | {"time": 0}, before.history(100), list(before.games)
    publisher.update(paused=True, ready=True, ended="over")
    publisher.add_row({"time": 2.0, "frames": 20.0}, {"frames": 20.0}, TurnHistogram(), [])
    publisher.add_evaluation(evaluation(6))
    publisher.add_changes([{"key": "b"}])
    publisher.add_restart("trainer", "died again")
    publisher.add_start({"launch": 3})
    assert (before.state() | {"time": 0}, before.history(100), list(before.games)) == kept
    now = publisher.status
    assert (now.paused, now.ready, now.problem, now.row["frames"]) == (True, True, "over", 20.0)
    assert len(now.evaluations) == len(now.changes) == len(now.restarts) == len(now.starts) == 2


def test_long_values_of_changes_are_cut_for_those_who_look(tmp_path: Path) -> None:
    long = {"key": "server.settings", "from": {"a": 1}, "to": {"a": "x" * 10_000}}
    (tmp_path / "changes.jsonl").write_text(json.dumps(long) + "\n")
    publisher = StatusPublisher(Config(), folder_of(tmp_path))
    publisher.add_changes([long, {"key": "paused", "from": False, "to": True}])
    earlier, now, short = publisher.status.changes
    assert earlier == now
    assert now["from"] == {"a": 1}
    assert now["to"] == '{"a": "' + "x" * (publishing.VALUE - 7) + "…"
    assert short == {"key": "paused", "from": False, "to": True}
    assert len(long["to"]["a"]) == 10_000, "the record itself stays whole"


def test_add_row_copies_row_so_later_changes_do_not_show(publisher: StatusPublisher) -> None:
    """The supervisor goes on with its dictionaries."""
    row, last = {"time": 1.0, "loss": 0.5}, {"loss": 0.5}
    publisher.add_row(row, last, TurnHistogram(), [])
    row["loss"] = last["loss"] = 9.0
    assert (publisher.status.row["loss"], publisher.status.last["loss"]) == (0.5, 0.5)


def test_status_read_from_other_threads_is_consistent(publisher: StatusPublisher) -> None:
    stop = threading.Event()
    torn: list[Any] = []

    def read() -> None:
        while not stop.is_set():
            seen = publisher.status
            frames = seen.row.get("frames", 0.0)
            if seen.last.get("frames", 0.0) != frames or len(seen.past) != frames:
                torn.append(seen)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(1, 1001):
        publisher.add_row(
            {"time": float(n), "frames": float(n)}, {"frames": float(n)}, TurnHistogram(), []
        )
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []


def test_status_lists_are_bounded(publisher: StatusPublisher) -> None:
    for n in range(publishing.RESTARTS + 5):
        publisher.add_restart("trainer", f"{n}" + "x" * 1000)
    for n in range(publishing.EVALUATIONS + 5):
        publisher.add_evaluation(evaluation(n))
    publisher.add_changes([{"key": str(n)} for n in range(publishing.CHANGES + 5)])
    now = publisher.status
    assert len(now.restarts) == publishing.RESTARTS
    assert len(now.restarts[-1]["text"]) == publishing.REASON
    assert (len(now.evaluations), now.evaluations[0]["frames"]) == (publishing.EVALUATIONS, 5)
    assert (len(now.changes), now.changes[0]["key"]) == (publishing.CHANGES, "5")


def test_state_has_single_returns_for_newest_evaluation_only(publisher: StatusPublisher) -> None:
    publisher.add_evaluation(evaluation(7))
    state = publisher.status.state()
    assert "returns" not in state["evaluations"][0]
    assert state["evaluations"][0]["episodes"] == 2
    assert state["evaluation"]["returns"] == (3.0, 5.0)


def test_history_has_rows_of_earlier_launches_and_new_rows(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    folder.rows.add({"time": 1.0, "frames": 10})
    publisher = StatusPublisher(Config(), folder)
    publisher.add_row({"time": 2.0, "frames": 20.0}, {}, TurnHistogram(), [])
    shown = publisher.status.history(4096)
    at = shown["columns"].index("frames")
    assert [row[at] for row in shown["rows"]] == [10, 20.0]
    assert shown["columns"] == COLUMNS
    assert len(publisher.status.history(1)["rows"]) == 1


def test_history_maps_old_column_names_to_new(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    folder.rows.add({"time": 1.0, "went_back": 2})
    shown = StatusPublisher(Config(), folder).status.history(10)
    assert shown["rows"][0][shown["columns"].index("rollbacks")] == 2


def test_problem_when_supervisor_loop_hangs_says_so(publisher: StatusPublisher) -> None:
    publisher.beat()
    assert publisher.status.problem == ""
    assert publisher.status.unready == "the gateways are starting"
    hanging = replace(publisher.status, looped_at=time.monotonic() - ALIVE_S - 5)
    assert hanging.problem == f"the supervisor's loop has not run for {ALIVE_S + 5:.0f} s"
    assert hanging.unready == hanging.problem
