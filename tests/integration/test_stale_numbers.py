"""A process that stands still: nothing that it said is shown as what is so now."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from server.ipc.heartbeat import Heartbeat, HeartbeatMonitor
from server.ipc.messages import LogLine, TrainerReport
from server.monitor.prometheus import exposition
from server.monitor.rate import Rate
from server.monitor.report_age import ReportAges, late_findings
from server.supervisor.child import Child
from server.supervisor.processes import Processes
from server.tui.live_table import plain_line
from tests.support.running import Running, client_for

OF_TRAINER = ("updates_per_s", "updates", "updates_due", "buffer_total", "buffer_fill", "paused")
OF_GATEWAYS = ("clients", "slots", "slots_training", "policy_version", "epsilon", "answers_per_s")


def test_report_is_old_after_three_intervals_and_none_before_the_first() -> None:
    ages = ReportAges(10.0)
    assert math.isnan(ages.age_s("trainer", 50.0))
    assert ages.late(1e6) == {}
    ages.heard("trainer", 100.0)
    ages.heard("gateway-0", 100.0)
    ages.heard("gateway-1", 125.0)
    assert ages.late(130.0) == {}
    assert ages.late(131.0) == {"trainer": 31.0, "gateway-0": 31.0}
    assert ages.age_s("gateway", 131.0) == 31.0
    ages.heard("gateway-0", 132.0)
    assert ages.kinds_late(133.0) == {"trainer"}


def test_process_that_announced_to_be_busy_is_no_warning() -> None:
    assert late_findings({"trainer": 60.0}, {"gateway-0": 7}) == []
    (found,) = late_findings({"trainer": 60.0}, {"trainer": 8})
    assert (found.id, "kill -CONT 8" in found.cure) == ("no_report_trainer", True)


@pytest.mark.parametrize("message", [TrainerReport, LogLine])
def test_process_that_loads_after_its_restart_is_no_warning(message: Any) -> None:
    """The newest report is of the one before it."""
    heartbeat, (pipe, theirs) = Heartbeat(), multiprocessing.Pipe()
    heartbeat.beat()
    child = Child("trainer", "trainer")
    child.pipe, child.monitor = pipe, HeartbeatMonitor(heartbeat, 0.0)
    with pipe, theirs:
        processes = SimpleNamespace(children=[child])
        theirs.send(object.__new__(message) if message is TrainerReport else LogLine(20, "", ""))
        assert list(child.messages())
        attentive = Processes.attentive.fget(processes)  # type: ignore[attr-defined]
        assert (attentive == {"trainer": 0}) is (message is TrainerReport)


def test_process_that_is_started_again_has_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.supervisor.child.CONTEXT", MagicMock(Pipe=multiprocessing.Pipe))
    monkeypatch.setattr("server.supervisor.child.Heartbeat", lambda _: Heartbeat())
    child = Child("trainer", "trainer")
    child.reported = True
    child.start(print, (), ())
    assert not child.reported
    assert child.pipe is not None
    child.pipe.close()


def play(server: Running, frames: int) -> None:
    """Play so many frames."""
    with client_for(server.port) as client:
        for _ in range(frames):
            client.act(np.ones(3), 1.0)


def test_count_that_is_corrected_downward_makes_no_negative_rate() -> None:
    rate = Rate()
    for count, at in ((100, 1.0), (103, 2.0), (100, 3.0)):
        rate.take(count, at)
    assert rate.per_s(3.0) == 0.0


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process of a test's own, and let it go on."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("runs") / "run") as found:
        play(found, 60)
        yield found


def lines_of(status: Any) -> str:
    """The samples that Prometheus is given."""
    return "\n".join(
        line for line in exposition(status).decode().splitlines() if not line.startswith("#")
    )


@pytest.mark.promise("stale-numbers")
@pytest.mark.parametrize(
    ("process", "names"), [("trainer", OF_TRAINER), ("gateway-0", OF_GATEWAYS)]
)
def test_stopped_process_has_no_numbers_until_it_goes_on(
    server: Running, process: str, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.monitor.report_age.WORTH_A_WARNING_S", 0.5)
    kind = process.partition("-")[0]

    def status() -> Any:
        return server.supervisor.status

    def all_there() -> bool:
        return all(name in status().last for name in names) and not status().degraded

    server.until(all_there, "all have reported")
    with stopped(server.pid(process)):
        server.until(lambda: process in status().degraded, "it is late")
        state = status().state()
        for name in names:
            assert state["last"][name] is None, name
            assert math.isnan(state["row"][name]), name
            assert f"understudy_{name.removesuffix('_total')} " not in lines_of(status()), name
        assert state["row"][f"report_age_s_{kind}"] > 0.9
        assert f'understudy_report_age_s_by_process{{process="{kind}"}}' in lines_of(status())
        assert "understudy_degraded 1.0" in lines_of(status())
        assert not status().problem, "it is degraded, not ended"
        if kind == "gateway":
            assert process in status().unready
        if kind == "trainer":
            assert "updates/s –" in plain_line(server.supervisor.last)
        warned = f"no_report_{process}"
        server.until(
            lambda: warned in {each["id"] for each in status().warnings}, "there is a warning"
        )
    server.until(all_there, "its numbers are back")
    assert status().state()["row"][f"report_age_s_{kind}"] <= 1


@pytest.mark.promise("stale-numbers")
def test_full_ring_is_seen_while_the_trainer_stands_still(tmp_path: Path) -> None:
    """In real time games play on until the ring is full: its fill is looked at, not told."""
    unpaced = {"trainer.max_lag_updates": None, "trainer.replay_ratio": 0.05}
    with Running(tmp_path / "run", **unpaced) as server:
        play(server, 10)
        server.settle()
        with stopped(server.pid("trainer")):
            game = threading.Thread(target=play, args=(server, 2000))
            game.start()
            server.until(lambda: server.row["ring_fill"] > 0.95, "the ring is full")
            server.until(lambda: math.isnan(server.row["updates_per_s"]), "it does not report")
            assert server.row["slots_training"] == 1
            server.until(lambda: server.row["frames_per_s"] == 0, "the game stands still")
            assert server.supervisor.last["ring_fill"] > 0.95
        game.join(60.0)
        assert not game.is_alive()
        server.settle()
        assert server.wait_rows()["ring_fill"] == 0
