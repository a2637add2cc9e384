"""Processes that die or hang, for real: started again, and games come back by themselves."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.ipc.inflight import FILE
from server.ipc.step_ring import _BEFORE, _STEPS, _STEPS_BEFORE, _WRITTEN, StepRing
from server.run.events import process_ids, read_events
from server.supervisor.child import ChildDied
from tests.support.processes import end
from tests.support.running import Running, client_for
from tests.support.serve import SMALL, summary_of
from tests.support.supervision import LONG_S, QUICK, rows_kept
from understudy_client import ClientError, Reconnected

pytestmark = pytest.mark.timeout(240)


class Player:
    """A game that goes on whatever happens to the server, and remembers what it was told. In real
    time: without a trainer it plays on (one in lock step waits: tests/integration/test_pace.py)."""

    def __init__(self, port: int) -> None:
        self.answers = 0
        self.sessions: list[int] = []
        self.settings: dict[str, Any] = {}
        """What it was told when it came back."""
        self.failure: ClientError | None = None
        self._stop = threading.Event()
        self._port = port
        self._thread = threading.Thread(target=self._play, name="player")
        self._thread.start()

    @property
    def cuts(self) -> int:
        """How often its episode was cut."""
        return len(self.sessions) - 1

    def _play(self) -> None:
        try:
            with client_for(self._port, timeout_s=LONG_S, realtime=True, evaluates=True) as client:
                self.sessions.append(client.session)
                while not self._stop.is_set():
                    try:
                        client.act(np.ones(3), 1.0)
                        self.answers += 1
                    except Reconnected:
                        self.sessions.append(client.session)
                        self.settings = dict(client.settings)
                    time.sleep(0.001)
        except ClientError as error:
            self.failure = error

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        assert self.failure is None, self.failure


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with Running(folder / "watched", **QUICK) as running:
        yield running


@pytest.fixture
def player(server: Running) -> Iterator[Player]:
    one = Player(server.port)
    try:
        server.until(lambda: one.answers > 50, "it plays", LONG_S)
        yield one
    finally:
        one.stop()


def until_both_go_on(server: Running, player: Player) -> None:
    """The game plays, and what it plays is stored."""
    answers = player.answers
    server.until(lambda: player.answers > answers + 50, "games go on", LONG_S)
    stored = server.row["steps_stored"]
    server.until(lambda: server.row["steps_stored"] > stored, "steps are stored", LONG_S)


@pytest.mark.promise("kill-gateway")
def test_killed_gateway_is_restarted(server: Running, player: Player) -> None:
    before, steps = server.row["restarts_gateway"], server.supervisor.steps
    pid = server.pid("gateway-0")
    os.kill(pid, signal.SIGKILL)
    server.until(lambda: player.cuts == 1, "the game has noticed", LONG_S)
    until_both_go_on(server, player)
    assert server.pid("gateway-0") != pid
    server.until(lambda: server.row["restarts_gateway"] == before + 1, "it is counted")
    lost, in_flight, restarting, started = events_of(server, "gateway-0")[-4:]
    assert (lost["event"], lost["how"], lost["exit_code"]) == ("process_lost", "died", -9)
    assert (in_flight["event"], restarting["event"]) == ("in_flight_lost", "restarting")
    assert restarting["in_s"] > 0
    assert (started["event"], started["pid"]) == ("process_started", server.pid("gateway-0"))
    assert re.search(r"gateway-0 died \(killed by SIGKILL.*steps were in flight", server.log())
    assert len(set(player.sessions)) == 2, "a session is never used twice"
    assert server.supervisor.steps > steps, "the counts go on"
    # A slot's last answered frame, and the step before it where the turn was not over.
    assert 1 <= server.row["frames_lost"] <= 1 + before
    assert server.row["steps_lost"] <= 1 + before


@pytest.mark.promise("kill-trainer")
def test_killed_trainer_is_restarted_while_games_play_on(server: Running, player: Player) -> None:
    before = server.row["restarts_trainer"]
    pid, version = server.pid("trainer"), server.row["policy_version"]
    total = server.row["buffer_total"]
    os.kill(pid, signal.SIGKILL)
    server.until(lambda: server.row["restarts_trainer"] == before + 1, "it is seen")
    answers = player.answers
    server.until(lambda: player.answers > answers + 20, "games play without it")
    server.until(lambda: server.pid("trainer") != pid, "it is started again", LONG_S)
    server.until(lambda: server.row["policy_version"] > version, "it publishes", LONG_S)
    until_both_go_on(server, player)
    assert player.cuts == 0
    read = re.findall(r"the replay has (\d+) steps, read", server.log())
    assert int(read[-1]) >= total, "the replay goes on as it was"
    server.until(lambda: server.row["buffer_total"] > int(read[-1]), "and grows", LONG_S)
    assert "trainer died (killed by SIGKILL" in server.log()


@pytest.mark.promise("kill-gateway")
def test_hanging_process_is_killed_and_games_wait_for_the_trainer(
    server: Running, player: Player
) -> None:
    """The trainer stands still: the ring fills, and then the games wait. And a gateway too."""
    before, stalls = server.row["restarts_trainer"], server.row["stalls"]
    os.kill(server.pid("trainer"), signal.SIGSTOP)
    server.until(lambda: server.row["stalls"] > stalls, "the ring is full", LONG_S)
    assert server.supervisor._processes.rings[0].free < 512
    waiting = server.supervisor.steps
    server.until(lambda: server.row["restarts_trainer"] > before, "it is found out", LONG_S)
    assert server.supervisor.steps <= waiting + 512
    until_both_go_on(server, player)
    assert player.cuts == 0, "no game has noticed more than a pause"
    assert re.search(r"trainer gave no sign of life for \d+ s and was killed", server.log())
    assert ("process_lost", "hung") in [
        (e["event"], e.get("how")) for e in events_of(server, "trainer")
    ]

    before = server.row["restarts_gateway"]
    os.kill(server.pid("gateway-0"), signal.SIGSTOP)
    server.until(lambda: server.row["restarts_gateway"] > before, "it is found out", LONG_S)
    server.until(lambda: player.cuts, "the game has noticed", LONG_S)
    until_both_go_on(server, player)
    assert re.search(r"gateway-0 gave no sign of life for \d+ s and was killed", server.log())


def events_of(server: Running, process: str) -> list[dict[str, Any]]:
    """What happened to this process."""
    return [e for e in read_events(server.folder.path) if e.get("process") == process]


def half_a_block(ring: StepRing) -> None:
    """As if the writer had died when it had counted three steps, before it said they are there."""
    counters = ring._counters
    counters[[_BEFORE, _STEPS_BEFORE]] = counters[[_WRITTEN, _STEPS]]
    counters[_STEPS] += 3


def test_restarted_process_gets_the_current_state(
    server: Running, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was changed and asked for since the start holds for the new ones too; and the server
    says of itself that games cannot play while there is no gateway."""
    ready: list[bool] = []
    restarted = server.supervisor.publisher.add_restart

    def noting(name: str, text: str) -> None:
        ready.append(server.supervisor.status.ready)
        if name == "gateway-0":
            half_a_block(server.supervisor._processes.rings[0])  # the last test here counts steps
        restarted(name, text)

    monkeypatch.setattr(server.supervisor.publisher, "add_restart", noting)
    control = server.supervisor.controller.handle
    for request in ({"set": {"exploration.epsilon": 0.25}}, {"pause": True}, {"evaluate": True}):
        answer = server.do(lambda request=request: control(request, "test"))
        assert "error" not in answer, answer
    asked = server.supervisor._evaluations.asked
    assert asked is not None
    try:
        before = server.row["restarts_trainer"]
        os.kill(server.pid("trainer"), signal.SIGSTOP)  # it answers nobody any more
        saved = server.do(lambda: control({"checkpoint": True}, "test"))
        os.kill(server.pid("trainer"), signal.SIGKILL)
        assert "the trainer has died; try again" in saved.result(LONG_S)["error"]
        server.until(lambda: server.row["restarts_trainer"] > before, "it is seen", LONG_S)
        until_both_go_on(server, player)
        server.until(lambda: server.row["paused"] == 1, "its successor has reported", LONG_S)
        os.kill(server.pid("gateway-0"), signal.SIGKILL)
        server.until(lambda: player.cuts, "the game has noticed", LONG_S)
        until_both_go_on(server, player)
        assert server.wait_rows()["epsilon"] == 0.25
        (game,) = server.supervisor.status.games
        assert game["session"] == player.sessions[-1], "those of the one that died are gone"
        assert player.settings["understudy.evaluate"] == asked.number
    finally:
        server.do(lambda: control({"pause": False}, "test"))
    assert ready == [True, False], "without a gateway no game can play"
    server.until(lambda: server.supervisor.status.ready, "games can play", LONG_S)
    assert re.search(
        r"trainer died \(killed by SIGKILL.*; its last log lines: .*process", server.log()
    )


@pytest.mark.promise("kill-trainer")
def test_restarts_lose_only_steps_in_flight_in_gateways(server: Running) -> None:
    """After all that the tests above did to it."""
    server.until(lambda: server.row["slots"] == 0, "the games are gone")
    row = server.settle()
    assert row["transitions_dropped"] == row["steps_lost"], "no more than died with gateways"
    assert row["steps_stored"] == server.supervisor.steps == row["steps_completed"]
    assert row["frames"] == row["steps_stored"]
    kept = rows_kept(server.folder.path)
    assert len(kept) == len(set(kept)) == row["steps_stored"], "each step once"


@pytest.mark.promise("repeated-bad-updates")
def test_trainer_that_gives_up_is_not_restarted(tmp_path: Path) -> None:
    """Numbers that went bad go bad again: `health.on_divergence` says that the run stops."""
    bad = {
        "health__on_divergence": "stop",
        "health__max_consecutive_skips": 3,
        "learner__learning_rate": 1e30,
    }
    with Running(tmp_path / "run", **QUICK, **bad) as server:
        deadline = time.monotonic() + LONG_S
        with client_for(server.port, realtime=True) as client:  # waits for no training
            while server.error is None and time.monotonic() < deadline:
                client.act(np.ones(3), 1.0)
        assert isinstance(server.error, ChildDied)
        assert "Training stopped (health.on_divergence" in str(server.error)
        assert server.supervisor.row["restarts_trainer"] == 0
        server.close(check=False)
        names = [event["event"] for event in read_events(server.folder.path)]
        assert names[:4] == ["starting", "process_started", "process_started", "ready"]
        assert names[-2:] == ["stopping", "stopped"]


# The whole server.


def children_of(run: Path) -> dict[str, int]:
    """The newest process of each child."""
    return process_ids(read_events(run))


def in_flight_lost(run: Path) -> list[dict[str, Any]]:
    """What was in flight whenever somebody was killed."""
    names = ("process", "steps", "frames")
    found = [event for event in read_events(run) if event["event"] == "in_flight_lost"]
    return [{name: event[name] for name in names} for event in found]


def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until this is true."""
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


ONCE = ("--supervision.max_restarts", "1", "--supervision.backoff_s", "0.1")
NO_HTTP = ("--server.http_port", "none")


@pytest.mark.promise("kill-all")
def test_start_after_killing_everything_reports_steps_in_flight(serve: Any, tmp_path: Path) -> None:
    config, run = tmp_path / "small.toml", tmp_path / "run"
    config.write_text(SMALL)
    # The game plays on while the trainer stands still.
    no_limit = ("--trainer.max_lag_updates", "none")
    server = serve("--config", str(config), "--run", str(run), *NO_HTTP, *no_limit)
    client = server.client()
    for seq in range(100):
        client.frame(seq, reward=1.0)
    # Nothing reaches the replay any more: how much is in flight is then no matter of luck.
    pids = children_of(run)
    os.kill(pids["trainer"], signal.SIGSTOP)
    for seq in range(100, 150):
        client.frame(seq, reward=1.0)
    # The supervisor last, for its death wakes who was stopped; and it must not see theirs.
    server.process.send_signal(signal.SIGSTOP)
    for pid in pids.values():
        end(pid)
    server.process.kill()
    server.process.wait()
    client.close()
    kept = rows_kept(run)
    assert kept == [(kept[0][0], seq) for seq in range(len(kept))]
    assert 0 < len(kept) < 100

    second = serve("--resume", str(run))
    until(lambda: in_flight_lost(run), "it is said")
    assert in_flight_lost(run) == [{"process": None, "steps": 149 - len(kept), "frames": 1}]
    second.stop()
    assert second.finish() == (0, "")
    summary = summary_of(run)
    assert summary["steps_lost"] == 149 - len(kept), "150 answers complete 149 steps"
    assert summary["frames_lost"] == 1, "and one is left"
    assert summary["frames"] == len(kept), "the run goes on from what is there"
    assert summary["buffer"]["total"] == len(kept)
    # It has ended in order: nothing was in flight.
    assert not (run / FILE).exists()


@pytest.mark.promise("restart-limit")
def test_too_many_restarts_end_with_exit_code_1_and_a_message(serve: Any, tmp_path: Path) -> None:
    config, run = tmp_path / "small.toml", tmp_path / "run"
    config.write_text(SMALL)
    server = serve("--config", str(config), "--run", str(run), *NO_HTTP, *ONCE)
    until(lambda: "gateway-0" in children_of(run), "it has started")
    first = children_of(run)["gateway-0"]
    os.kill(first, signal.SIGKILL)
    until(lambda: children_of(run)["gateway-0"] != first, "it is started again")
    os.kill(children_of(run)["gateway-0"], signal.SIGKILL)
    server.process.wait(LONG_S)
    code, errors = server.finish()
    assert code == 1
    assert len(errors.splitlines()) == 1
    assert "understudy serve: gateway-0 died (killed by SIGKILL" in errors
    assert "restart_refused" in [event["event"] for event in read_events(run)]
    assert "not restarted, since it was 1 times within 600 s" in errors
