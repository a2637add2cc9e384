from __future__ import annotations

import json
import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import checkpoint
from agent.policy import Policy
from config.load import ConfigError, config_from
from protocol.spaces import GameSpec, Observation
from server.gateway import process as gateway_process
from server.gateway.frame_loop import FrameLoop
from server.ipc.messages import CheckpointSaved, DumpWritten, ProcessFailed
from server.net.sockets import listen
from server.run.directory import RunDirectory
from server.run.metrics_log import plain
from server.supervisor.child import ChildDied
from server.supervisor.supervisor import Supervisor
from tests.support.running import RawClient, Running, client_for, hello_fields
from tests.support.worlds import SPEC

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with Running(folder / "supervised", record=True, checkpoint__every_s=0.1) as running:
        yield running


def play(server: Running, frames: int, **more: Any) -> int:
    """Play so many frames; the steps that these are."""
    with client_for(server.port, **more) as client:
        for _ in range(frames):
            client.act(np.ones(3), 1.0)
    return frames - 1


def test_settle_waits_until_all_steps_are_stored_and_learnt(server: Running) -> None:
    before = server.row.get("steps_stored", 0)
    steps = play(server, 200)
    row = server.settle()
    assert row["steps_stored"] == before + steps
    assert row["transitions_dropped"] == 0
    assert row["updates_due"] == 0
    assert row["updates"] == row["steps_stored"] - 20
    assert server.supervisor.steps == row["steps_stored"]


def test_settle_and_pause_do_not_depend_on_reports_or_status(tmp_path: Path) -> None:
    with Running(tmp_path / "run", metrics__every_s=1000.0) as server:
        supervisor, control = server.supervisor, server.supervisor.controller.handle
        supervisor.publisher.update(paused=True)  # which would be wrong
        steps = play(server, 100, timeout_s=60.0)
        begin = time.monotonic()
        row = server.settle()
        assert time.monotonic() - begin < 30
        assert (row["slots"], row["steps_stored"], row["transitions_dropped"]) == (0, steps, 0)
        assert row["updates"] == steps - 20
        assert server.do(lambda: control({"pause": True}, "test"))["text"].startswith(
            "training is paused"
        )
        assert supervisor.paused
        play(server, 100)
        assert server.settle()["updates"] == row["updates"]
        supervisor.publisher.update(paused=False)  # which would be wrong, too
        assert server.do(lambda: control({"pause": False}, "test"))["text"] == "training resumed"


def test_settle_without_a_game_returns_and_with_a_playing_one_times_out(tmp_path: Path) -> None:
    with Running(tmp_path / "run", metrics__every_s=1000.0) as server:
        assert server.do(server.supervisor.settle, 60.0)
        with RawClient(server.port, timeout_s=60).welcome() as client:
            client.frame(0)
            assert not server.do(lambda: server.supervisor.settle(0.5))


def test_requested_checkpoint_is_of_the_moment_of_the_request(server: Running) -> None:
    """Others, which nobody asked for, are written all the time here."""
    for _ in range(3):
        play(server, 50)
        row = server.settle()
        saved = server.do(server.supervisor.trainer.checkpoint)
        assert saved.error is None
        assert checkpoint.load(Path(saved.path))["frames"] == row["frames"]


def test_audit_dump_holds_what_was_played(server: Running, tmp_path: Path) -> None:
    play(server, 50)
    row = server.settle()
    path = tmp_path / "replay.npz"
    server.do(lambda: server.supervisor.trainer.dump(str(path)))
    with np.load(path) as file:
        assert len(file["seq"]) == row["buffer_total"]
        assert len(file["batch_seq"]) == row["updates"] * 16


def test_metrics_are_written_row_by_row(server: Running) -> None:
    server.wait_rows()
    lines = server.folder.metrics.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) >= 2
    assert all(a["time"] < b["time"] for a, b in pairwise(rows))
    assert not any(isinstance(value, float) and math.isnan(value) for value in rows[-1].values())


def test_last_values_remain_when_a_mean_has_no_rows(server: Running) -> None:
    play(server, 100)
    server.settle()
    server.until(lambda: math.isnan(server.row["td_err_mean_dqn"]), "nothing is learnt just now")
    assert math.isfinite(server.supervisor.last["td_err_mean_dqn"])


def test_trainer_lines_are_kept_and_logged(server: Running) -> None:
    play(server, 600)
    server.settle()
    server.until(lambda: server.supervisor._metrics.lines, "there is a line")
    assert "[BATCH] Step 100: 16 DQN (100.0%) / 0 expert (0.0%)" in server.supervisor._metrics.lines
    assert "[BATCH] Step 100: 16 DQN (100.0%) / 0 expert (0.0%)" in server.log()


def test_log_has_a_line_for_every_connecting_game(server: Running) -> None:
    with RawClient(server.port).welcome(client="my-game/7") as client:
        session = client.fields["session"]
    line = f"welcome to session {session}: my-game/7, train, 1 slots"
    server.until(lambda: line in server.log(), "it is logged")


def test_failure_during_stop_does_not_prevent_the_stop(server: Running) -> None:
    supervisor = server.supervisor
    play(server, 2)  # so that it has a game, and a trainer that was ready
    supervisor._stopping = True
    try:
        supervisor._handle(ProcessFailed("trainer: too late to matter"))
    finally:
        supervisor._stopping = False
    assert "too late to matter" in server.log()
    ready = supervisor._processes.ready
    supervisor._handle(ProcessFailed("trainer: in the middle"))  # what follows is its end
    supervisor._processes.ready = None
    try:
        with pytest.raises(ConfigError, match="in time"):
            supervisor._handle(ProcessFailed("trainer: in time"))
    finally:
        supervisor._processes.ready = ready


def test_unknown_messages_are_refused(server: Running) -> None:
    with pytest.raises(TypeError, match=r"expected a message of server\.ipc\.messages"):
        server.supervisor._handle("hello")


def test_missing_answer_of_a_process_is_reported(server: Running) -> None:
    def ask() -> None:
        server.supervisor.trainer._ask(CheckpointSaved("nothing that it answers"), DumpWritten, 0.1)

    with pytest.raises(TimeoutError, match="expected the trainer to answer"):
        server.do(ask)


# Starts that fail: nothing is left behind, and a message says what to do.


def refused(folder: Path, **settings: Any) -> str:
    with pytest.raises(ConfigError) as error:
        Running(folder / "refused", **settings)
    return str(error.value)


@pytest.mark.parametrize("gateways", [1, 2])
def test_port_in_use_is_reported(tmp_path: Path, gateways: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused(tmp_path, server__port=port, server__gateways=gateways)
    assert f"server.port: cannot listen on 127.0.0.1:{port}" in message
    assert "choose another port" in message


@pytest.mark.parametrize("ours", [1, 2])
@pytest.mark.parametrize("theirs", [1, 2])
def test_port_of_another_server_counts_as_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: int, theirs: int
) -> None:
    """Several gateways share a port with each other, and with nobody else: not even with a server
    that has not got further than to listen."""
    first = supervisor_with(tmp_path / "first", gateways=theirs, port=0)
    sockets = listen(first.config)
    port = sockets[0].ports[0]
    second = supervisor_with(tmp_path / "second", gateways=ours, port=port)
    monkeypatch.setattr(second._processes, "_start", None)
    try:
        with pytest.raises(ConfigError, match=r"server\.port: cannot listen"):
            second.start()
    finally:
        for each in sockets:
            each.close()
        for one in (first, second):
            one.folder.close()


def supervisor_with(path: Path, *, gateways: int, port: int) -> Supervisor:
    values = {"server.gateways": gateways, "server.port": port, "run.dir": str(path)}
    config = config_from(values)
    return Supervisor(config, RunDirectory.open(config, resume=False))


def test_address_of_another_machine_is_reported(tmp_path: Path) -> None:
    elsewhere = {"server__host": "192.0.2.1", "server__insecure": True}
    assert "cannot listen on 192.0.2.1" in refused(tmp_path, **elsewhere)


@pytest.mark.parametrize("field", ["server.device", "trainer.device", "replay.device"])
def test_missing_device_is_reported_at_start(tmp_path: Path, field: str) -> None:
    message = refused(tmp_path, **{field.replace(".", "__"): "cuda:99"})
    assert f"{field} is 'cuda:99'" in message
    assert "set it to cpu or auto" in message


# Processes that die.


@pytest.mark.parametrize("name", ["gateway-0", "trainer"])
@pytest.mark.promise("restart-limit")
def test_dead_process_without_restarts_stops_the_server_cleanly(tmp_path: Path, name: str) -> None:
    """Where nothing is started again. Nothing is left behind (see Running.close), and nothing is
    lost, whoever it was."""
    with Running(tmp_path / "run", supervision__max_restarts=0) as server:
        play(server, 50)
        os.kill(server.pid(name), signal.SIGKILL)
        deadline = time.monotonic() + 30.0
        while server.error is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert isinstance(server.error, ChildDied)
        assert f"{name} died (killed by SIGKILL" in str(server.error)
        assert "supervision.max_restarts is 0" in str(server.error)
        assert str(server.folder.log) in str(server.error)
        server.close(check=False)
        assert server.stop_s < 10


def with_a_broken_turn(*args: Any) -> None:
    """A gateway whose turns fail: what must not happen."""

    def fail(_self: FrameLoop) -> None:
        raise ValueError("broken on purpose")

    FrameLoop.run = fail  # type: ignore[assignment,method-assign]
    gateway_process.main(*args)


def with_a_broken_policy(*args: Any) -> None:
    """A gateway that cannot open: no memory for the network, say."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken on purpose")

    Policy.__init__ = fail  # type: ignore[method-assign]
    gateway_process.main(*args)


def ended(server: Running) -> str:
    """Wait until the server cannot go on; why."""
    deadline = time.monotonic() + 60.0
    while server.error is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return str(server.error)


@pytest.mark.promise("refused-start")
def test_game_that_no_gateway_can_open_ends_the_start_at_once_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.supervisor.entry_points.gateway", with_a_broken_policy)
    with Running(tmp_path / "run", supervision__max_restarts=5) as server:
        with RawClient(server.port, timeout_s=60.0) as client:
            client.send([1, hello_fields()])
            assert client.recv() is None
        text = ended(server)
        assert isinstance(server.error, ConfigError)
        assert "gateway: expected to open the game" in text
        assert "RuntimeError: broken on purpose; correct what it names" in text
        assert "Traceback" in server.log()
        server.close(check=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.promise("refused-start")
def test_expert_that_fails_only_in_a_gateway_refuses_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "picky_expert.py").write_text(
        "import multiprocessing\n"
        "if multiprocessing.current_process().name.startswith('gateway'):\n"
        "    raise RuntimeError('not here')\n"
        "def expert(obs, situation):\n    return obs\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with Running(tmp_path / "run", expert__plugin="picky_expert:expert") as server:
        text = ended(server)
        assert isinstance(server.error, ConfigError)
        server.close(check=False)
    assert "gateway: expert.plugin 'picky_expert:expert': RuntimeError: not here" in text
    assert "correct it, or leave expert.plugin out" in text
    assert not (tmp_path / "run").exists()


def test_gateway_that_cannot_continue_reports_it_instead_of_blocking_games(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.supervisor.entry_points.gateway", with_a_broken_turn)
    with Running(tmp_path / "run", supervision__max_restarts=0) as server:
        with RawClient(server.port, timeout_s=60.0) as client:
            client.send([1, hello_fields()])
            if client.recv() is not None:
                assert client.frame(0) is None
        deadline = time.monotonic() + 30.0
        while server.error is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert isinstance(server.error, ChildDied)
        assert "Traceback" in server.log()
        assert "broken on purpose" in server.log()
        server.close(check=False)


@pytest.mark.promise("game-over-memory")
def test_game_too_large_for_the_machine_is_refused_and_another_accepted(tmp_path: Path) -> None:
    huge = GameSpec("huge", Observation("float32", (250_000,)), SPEC.actions).checked()
    with Running(tmp_path / "run", server__max_game_bytes=2**26) as server:
        for _ in range(2):
            with RawClient(server.port, timeout_s=60) as client:
                client.send([1, hello_fields(huge)])
                code, text, retry = client.refusal()
            assert (code, retry) == ("bad_hello", False)
            assert "expected a game that takes at most 64 MiB here" in text
            assert "raise server.max_game_bytes" in text
        with RawClient(server.port, timeout_s=60) as client:
            client.welcome().frame(0)
        server.settle()


def test_game_too_large_for_shared_memory_is_refused(tmp_path: Path) -> None:
    with Running(
        tmp_path / "run", server__ring_steps=10**11, server__max_game_bytes=2**60
    ) as server:
        with RawClient(server.port, timeout_s=60) as client:
            client.send([1, hello_fields(SPEC)])
            code, text, _ = client.refusal()
        assert code == "bad_hello"
        assert "lower server.ring_steps" in text
        assert server.error is None
        assert server.folder.game() is None


# Rows as JSON.


def test_metrics_row_is_valid_json() -> None:
    row = {"a": 1.0, "b": 0.5, "c": math.nan, "d": math.inf, "e": -2.0}
    assert json.dumps(plain(row)) == '{"a": 1, "b": 0.5, "c": null, "d": null, "e": -2}'
