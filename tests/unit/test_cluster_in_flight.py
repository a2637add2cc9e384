"""What was in flight where a node's actor, or the driver, was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.models import Config
from server.cluster import crash_counters as module
from server.cluster.crash_counters import begin_counting, end_left, note_process, read_left
from server.cluster.messages import Answered, Setup
from server.cluster.previous_start import FILE, PreviousStart
from server.cluster.remote_ring import NOTHING_COUNTED
from server.ipc import inflight
from server.ipc.inflight import InFlightCounters, left


def start(folder: Path, launch: int) -> Any:
    class Run:
        path = folder

    Run.launch = launch  # type: ignore[attr-defined]
    return Run


def test_counters_of_an_actor_that_was_killed_are_found_with_whose_they_are(tmp_path: Path) -> None:
    counters = begin_counting(tmp_path, Setup(Config(), "/run", 3, made=2), {1: 7, 2: 8}, 4)
    inflight.cells(counters.path, 1)[:] = 70, 5
    assert read_left(tmp_path) == {1: Answered(3, 2, 70, 5, 7), 2: Answered(3, 2, 0, 0, 8)}
    assert read_left(tmp_path / "elsewhere") == {}
    (tmp_path / "whose.json").write_text("{}")
    assert read_left(tmp_path) == {}


def test_nodes_of_a_driver_that_was_killed_know_better_what_was_answered(tmp_path: Path) -> None:
    counters = InFlightCounters(tmp_path / inflight.FILE, 1000, 2)
    for gateway, numbers in enumerate([(40, 1), (50, 2)]):  # as the driver had heard
        inflight.cells(counters.path, gateway)[:] = numbers
    PreviousStart(start(tmp_path, 4)).keep(
        {0: (0, 0, NOTHING_COUNTED), 1: (2, 30, NOTHING_COUNTED)}
    )
    again = PreviousStart(start(tmp_path, 5))
    again.found(0, Answered(4, 0, 44, 3, 1))
    again.found(1, Answered(4, 2, 25, 4, 1))  # behind the 30 of the actors before
    assert left(counters.path, again.answered) == (1000 + 44 + 55, 3 + 4)
    assert left(counters.path) == (1000 + 90, 3), "without them, what the driver had heard"


def test_what_is_left_of_another_start_or_actor_is_not_taken(tmp_path: Path) -> None:
    PreviousStart(start(tmp_path, 4)).keep({0: (1, 10, NOTHING_COUNTED)})
    again = PreviousStart(start(tmp_path, 5))
    again.found(0, Answered(3, 1, 99, 9, 1))
    again.found(0, Answered(4, 0, 99, 9, 1))
    assert again.answered == {}
    for text in ("[]", '{"launch": 4, "gateways": {"0": [1, 10]}}'):
        (tmp_path / FILE).write_text(text)
        damaged = PreviousStart(start(tmp_path, 5))
        damaged.found(0, Answered(4, 1, 99, 9, 1))
        assert damaged.answered == {}


def test_processes_of_actors_before_are_ended_and_those_of_other_nodes_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    running = {11: "5", 12: "5", 13: "5", 14: "6"}
    monkeypatch.setattr(module, "_began", lambda pid: running.get(pid, ""))

    def kill(pid: int, _number: int) -> None:
        killed.append(pid)
        del running[pid]

    monkeypatch.setattr("os.kill", kill)
    for launch, made, pid in ((1, 0, 11), (2, 0, 12), (2, 1, 13), (1, 0, 14)):
        note_process(tmp_path, Setup(Config(), "/run", launch, made), pid)
    running[14] = "7"  # another process has its number now
    now = Setup(Config(), "/run", 2, 1)
    end_left(tmp_path, now, own=False)
    assert killed == [11], "of an earlier start"
    end_left(tmp_path, now, own=True)
    assert killed == [11, 12], "of the actor before this one"
    end_left(tmp_path / "elsewhere", now, own=True)
