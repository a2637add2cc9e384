"""`understudy serve` as its users start and stop it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from agent import checkpoint
from server import cli
from tests.support.commands import in_this_process
from tests.support.preloaded import completed
from tests.support.processes import descendants, end
from tests.support.running import RawClient, hello_fields
from tests.support.serve import ADVICE, ROOT, SMALL, memory_of, play, summary_of
from tests.support.tempest_client import TempestClient
from tests.support.worlds import EXPERT, PIXELS

pytestmark = pytest.mark.timeout(90)


@pytest.mark.promise("stop")
def test_serve_stops_cleanly_and_resumes(serve: Any, tmp_path: Path) -> None:
    config = tmp_path / "small.toml"
    config.write_text(SMALL)
    run = tmp_path / "run"
    first = serve("--config", str(config), "--run", str(run), typed=True)
    client = first.client()
    session = client.fields["session"]
    first_version = play(client, 300)
    memory = memory_of(first.process.pid)
    assert len(memory) == 2, "one ring, one weight slot"
    # Asked to, it writes a checkpoint without stopping.
    first.process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 15.0
    while not checkpoint.checkpoints(run / "checkpoints") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert checkpoint.checkpoints(run / "checkpoints")
    assert play_on(client, 300, 100) >= first_version
    # Changed while it runs: the expert plays all from now on, and after a resume.
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main(["set", "--run", str(run), "expert.ratio=1", "learner.n_step=4"]) == 0
    assert "learner.n_step: 3 -> 4" in out.getvalue()
    assert {client.frame(seq, expert=ADVICE)[4] for seq in range(400, 420)} == {EXPERT}
    took = first.stop()
    assert took < 10
    assert client.refusal()[0] == "server_stopping"
    client.close()
    assert first.finish() == (0, "")
    (line,) = (line for line in first.out if "stopped; the run is in" in line)
    assert line.rstrip().endswith(f"INFO    supervisor: stopped; the run is in {run}")
    assert not [pid for pid in first.children if Path(f"/proc/{pid}").exists()]
    assert not {name for name in memory if Path("/dev/shm", name).exists()}

    assert not (run / "control.sock").exists()
    summary = summary_of(run)
    assert summary["frames"] == summary["steps_stored"] == summary["steps_completed"] == 419
    assert summary["launch"] == 1
    assert summary["transitions_dropped"] == 0
    assert summary["updates"] > 0
    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    state = checkpoint.load(path)
    assert state["frames"] == 419
    assert state["learner"]["updates"] == summary["updates"]

    # Another folder's settings come along; what the command line says wins.
    second = serve("--resume", str(run), "--metrics.every_s", "0.2")
    client = second.client()
    assert client.fields["session"] > session, "sessions never repeat"
    version = play(client, 100, only=EXPERT)
    assert version > state["version"], "versions rise on"
    client.reset()  # gone without BYE
    deadline = time.monotonic() + 15.0
    # No number until the checkpoint has been read, and the trainer has told of itself.
    while (
        (summary_row(run)["frames"] or 0) < 419 + 99 or not summary_row(run)["updates"]
    ) and time.monotonic() < deadline:
        time.sleep(0.05)
    row = summary_row(run)
    assert row["frames"] == 419 + 99
    assert row["steps_stored"] == 99
    assert row["updates"] >= summary["updates"]
    assert row["policy_version"] > summary["policy_version"]
    # The other game is refused by the run that has one.
    with RawClient(second.port) as other:
        other.send([1, hello_fields(PIXELS)])
        assert other.refusal()[0] == "spec_mismatch"
    assert second.stop(signal.SIGINT) < 10
    assert second.finish() == (0, "")
    summary = summary_of(run)
    assert (summary["frames"], summary["transitions_dropped"]) == (518, 0)
    text = (run / "understudy.log").read_text()
    assert f"resumed from {path} at frame 419" in text
    assert "Traceback" not in text

    # Nobody has evaluated it.
    code, errors = in_process("--resume", str(run), "--best")
    assert (code, len(errors)) == (2, 1)
    assert "best.pt, found none" in errors[0]
    # What must not be: a run again without --resume, and one whose checkpoint is another game's.
    code, errors = in_process("--run", str(run))
    assert (code, len(errors)) == (2, 1)
    assert f"holds a run; continue it with `--resume {run}`" in errors[0]
    (run / "game.json").write_text(
        (run / "game.json").read_text().replace('"test"', '"another game"')
    )
    code, errors = in_process("--resume", str(run))
    assert code == 2
    assert "expected a checkpoint of the game" in errors[-1]
    assert "another game" in errors[-1]


def play_on(client: RawClient, first: int, frames: int) -> int:
    version = 0
    for seq in range(first, first + frames):
        version = client.frame(seq, reward=1.0)[5]
    return version


def summary_row(run: Path) -> dict[str, Any]:
    """The newest row of metrics that is complete."""
    lines = (run / "metrics.jsonl").read_text().split("\n")
    row: dict[str, Any] = json.loads(lines[-2])
    return {"steps_stored": 0, "updates": 0} | row


def test_serve_stopped_before_any_game_exits_cleanly(serve: Any, tmp_path: Path) -> None:
    """And asked for a checkpoint, of nothing."""
    server = serve("--port", "0", "--run", str(tmp_path / "run"))
    server.process.send_signal(signal.SIGUSR1)
    time.sleep(0.3)
    server.stop()  # the trainer is still being loaded: how long that takes is not promised
    assert server.finish() == (0, "")
    assert summary_of(tmp_path / "run")["steps_completed"] == 0


@pytest.mark.promise("kill-supervisor")
def test_killed_supervisor_leaves_no_process_and_loses_no_step(serve: Any, tmp_path: Path) -> None:
    """No order, no signal: its processes end by themselves, and what was played is saved."""
    config = tmp_path / "small.toml"
    config.write_text(SMALL)
    run = tmp_path / "run"
    server = serve("--config", str(config), "--run", str(run), typed=True)
    client = server.client()
    play(client, 100)
    memory = memory_of(server.process.pid)
    children = descendants(server.process.pid)
    assert len(children) == 2
    assert len(memory) == 2
    server.process.kill()
    server.process.wait()
    deadline = time.monotonic() + 60.0
    left: set[Any] = {True}
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = {pid for pid in children if Path(f"/proc/{pid}").exists()}
        left |= {name for name in memory if Path("/dev/shm", name).exists()}
    for pid in children:
        end(pid)
    assert not left
    assert client.refusal()[0] == "server_stopping", "the games are told"
    client.close()
    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    assert checkpoint.load(path)["frames"] == 99
    server.finish()


# Starts that fail: exit code 2 and one readable message.


def refused(*options: str) -> tuple[int, list[str]]:
    """Exit code and lines of stderr."""
    done = completed("serve", *options, timeout=60)
    return done.returncode, done.stderr.splitlines()


def in_process(*options: str) -> tuple[int, list[str]]:
    """The same without starting Python again."""
    code, _, errors = in_this_process("serve", *options)
    return code, errors.splitlines()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--server.prot", "7777"], "did you mean --server.port?"),
        (["--server.port", "many"], "expected a whole number from 0 to 65535, got 'many'"),
        (["--port", "99999"], "expected a whole number from 0 to 65535, got 99999"),
        (["--expert.ratio.start", "2"], "expert.ratio.start: expected a number from 0 to 1"),
        (["--trainer.min_steps", "2000000"], "training would never begin"),
        (["--advantage.weight_min", "200"], "the smallest weight must not exceed the largest"),
        (["--preset", "demmo"], "did you mean demo?"),
        (["--config", "no-such.toml"], "cannot read no-such.toml"),
        (["--resume", "no-such-run"], "there is no such folder; name that of a run"),
        (["--best"], "--best needs --resume"),
        (["--best", "--resume", "no-such-run"], "there is no such folder; name that of a run"),
        (["--replay.actor_share", "{expert = 0.7, dqn = 0.7}"], "more than 1"),
    ],
)
def test_wrong_setting_is_refused_with_one_message(options: list[str], message: str) -> None:
    code, errors = in_process(*options)
    assert code == 2
    assert len(errors) == 1, errors
    assert errors[0].startswith("understudy serve: ")
    assert message in errors[0]


def test_wrong_config_file_is_refused_with_one_message(tmp_path: Path) -> None:
    config = tmp_path / "wrong.toml"
    config.write_text("[server]\nprot = 7777\n")
    code, errors = in_process("--config", str(config))
    assert (code, len(errors)) == (2, 1)
    assert "server.prot: there is no such setting (did you mean server.port?)" in errors[0]


def test_wrong_environment_variable_is_refused_with_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UNDERSTUDY_SERVER__PROT", "7777")
    code, errors = in_process()
    assert (code, len(errors)) == (2, 1)
    assert "UNDERSTUDY_SERVER__PROT: there is no such setting" in errors[0]


def test_folder_that_is_no_run_is_refused_with_one_message(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    code, errors = in_process("--run", str(tmp_path))
    assert (code, len(errors)) == (2, 1)
    assert "holds something else" in errors[0]


@pytest.mark.promise("port-taken")
def test_game_port_in_use_is_refused_with_one_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, errors = refused("--port", str(port), "--run", str(tmp_path / "run"))
    assert (code, len(errors)) == (75, 1), errors
    assert f"server.port: cannot listen on 127.0.0.1:{port}: Address already in use" in errors[0]
    assert "stop what uses it, or choose another port" in errors[0]
    assert not (tmp_path / "run").exists(), "there is no folder of a run that never was"


def test_refused_start_prints_no_stop_message_and_keeps_the_folder(tmp_path: Path) -> None:
    """And a folder that was there stays."""
    (tmp_path / "run").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, out, errors = in_this_process(
            "serve", "--run", str(tmp_path / "run"), "--port", str(taken.getsockname()[1]),
            "--server.http_port", "none",
        )  # fmt: skip
    assert code == 75
    assert "cannot listen" in errors
    assert "stopped; the run is in" not in out + errors
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.promise("port-taken")
def test_http_port_in_use_is_refused_before_games_connect(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, out, errors = in_this_process(
            "serve", "--run", str(tmp_path / "run"), "--port", "0",
            "--server.http_port", str(taken.getsockname()[1]),
        )  # fmt: skip
        where = f"server.http_port: cannot listen on 127.0.0.1:{taken.getsockname()[1]}"
    assert code == 75
    assert f"{where}: Address already in use; stop the program that uses it" in errors
    assert "listens on" not in out
    assert "killed" not in out


def test_ctrl_c_during_start_prints_no_traceback(tmp_path: Path) -> None:
    """A terminal sends it to the whole group, whose processes are loading what they need."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "server", "serve", "--run", str(tmp_path / "run"),
         "--port", "0", "--server.http_port", "none"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    children: list[int] = []
    try:
        assert process.stdout is not None
        assert "listens on" in process.stdout.readline()
        children = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        out, errors = process.communicate(timeout=60.0)
    finally:
        for pid in children:
            end(pid)
        process.kill()
        process.wait()
    assert (process.returncode, errors) == (0, "")
    assert "gateway-0 did not end in time" not in out
    assert "stopped; the run is in" in out


def test_ctrl_c_during_imports_prints_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.importlib, "import_module", interrupted)
    assert cli.main(["serve"]) == 130


@pytest.mark.promise("port-taken")
def test_older_clients_port_in_use_is_refused_with_one_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = str(tmp_path / "run")
        code, errors = in_process("--port", "0", "--tempest-port", str(port), "--run", run)
    assert (code, len(errors)) == (75, 1), errors
    assert f"tempest.port: cannot listen on 127.0.0.1:{port}: Address already in use" in errors[0]
    assert "stop what uses it, or choose another port" in errors[0]


def test_missing_expert_plugin_is_refused_with_one_message(tmp_path: Path) -> None:
    code, errors = in_process(
        "--port", "0", "--run", str(tmp_path / "r"), "--expert.plugin", "no_such:act"
    )
    assert (code, len(errors)) == (2, 1), errors
    assert "expert.plugin 'no_such:act': ModuleNotFoundError" in errors[0]


def test_older_clients_get_their_own_port(serve: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    server = serve("--port", "0", "--tempest-port", "0", "--run", str(run))
    port = server.wait_for(r"older clients for Tempest connect to 127\.0\.0\.1:(\d+)")[1]
    with TempestClient(int(port)) as client:
        reply = client.frame([0.5] * 171)
        assert reply is not None
        assert reply[3:] == (1, 13), "as the preset has it"
    server.stop()
    assert server.finish() == (0, "")
    assert json.loads((run / "game.json").read_text())["observation"] == ["float32", [171]]


@pytest.mark.skipif(torch.cuda.device_count() > 90, reason="this machine has that device")
def test_missing_device_is_refused_with_one_message(tmp_path: Path) -> None:
    code, errors = in_process(
        "--port", "0", "--run", str(tmp_path / "r"), "--server.device", "cuda:99"
    )
    assert (code, len(errors)) == (2, 1), errors
    assert "server.device is 'cuda:99'" in errors[0]
