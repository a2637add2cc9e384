"""A server from start to stop (server.supervisor.session), as commands, lab and tests do it."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.load import ConfigError, config_from
from config.models import Config
from server import cli
from server.run.events import read_events
from server.supervisor.session import running
from tests.support.processes import descendants
from tests.support.running import TINY

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.timeout(120)]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def config_for(run: Path, **more: Any) -> Config:
    settings = {name.replace("__", "."): value for name, value in more.items()}
    return config_from(TINY | {"run.dir": str(run)} | settings)


def test_server_session_leaves_only_the_run_folder(tmp_path: Path) -> None:
    root, others = logging.getLogger(), descendants(os.getpid())
    before = root.level, list(root.handlers)
    run = tmp_path / "run"
    with running(config_for(run)) as supervisor:
        assert len(descendants(os.getpid())) > len(others)
        supervisor.poll(0.01)
        supervisor.found["remark"] = "played"
        with pytest.raises(ConfigError, match="in use"), running(config_for(run)):
            pass  # somebody has it
    assert descendants(os.getpid()) == others
    assert (root.level, root.handlers) == before
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["launch"], summary["remark"]) == (1, "played")
    names = [event["event"] for event in read_events(run)]
    assert (names[0], names[-2:]) == ("starting", ["stopping", "stopped"])
    with running(config_for(run)):
        pass  # no game came, so that it may begin again


def test_exception_inside_the_session_stops_the_server_and_propagates(tmp_path: Path) -> None:
    others = descendants(os.getpid())
    with pytest.raises(KeyError, match="what"), running(config_for(tmp_path / "run")):
        raise KeyError("what")
    assert descendants(os.getpid()) == others
    assert (tmp_path / "run" / "summary.json").exists()


def test_server_session_serves_http_if_asked(tmp_path: Path) -> None:
    config = config_for(tmp_path / "run", server__http_port=0)
    with running(config) as supervisor:
        assert supervisor.dashboard is None
    with running(config, http=True) as supervisor:
        assert supervisor.dashboard is not None
        deadline = time.monotonic() + 60.0
        while not supervisor.status.ready and time.monotonic() < deadline:
            supervisor.poll(0.1)
        (ready,) = [e for e in read_events(tmp_path / "run")[-5:] if e["event"] == "ready"]
        assert ready["dashboard"] == supervisor.dashboard
        assert ready["port"] == supervisor.port


def test_refused_start_removes_only_a_folder_it_made(tmp_path: Path, taken: int) -> None:
    for setting in ("server__port", "server__http_port"):
        ports = {"server__http_port": 0, setting: taken}
        config = config_for(tmp_path / "new" / "run", **ports)
        with pytest.raises(ConfigError, match=str(taken)), running(config, http=True):
            pass
        assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    config = config_for(tmp_path / "old", server__port=taken)
    with pytest.raises(ConfigError, match=str(taken)), running(config):
        pass
    assert not list((tmp_path / "old").iterdir())


@pytest.mark.parametrize("command", ["demo", "demo-mame"])
def test_demo_that_cannot_start_leaves_no_folder(
    command: str,
    tmp_path: Path,
    taken: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("server.commands.demo_mame.find_mame", lambda: None)
    monkeypatch.setattr("os.umask", lambda _: 0)
    run = tmp_path / "run"
    code = cli.main([command, "--run", str(run), "--port", str(taken), "--server.http_port", "0"])
    assert code == 75
    assert str(taken) in capsys.readouterr().err
    assert not run.exists()
