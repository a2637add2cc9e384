"""What systemd is told, at a socket as it makes one."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from server.supervisor.sd_notify import ServiceManager

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    """Where a service manager hears."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60.0)
        yield sock


def heard(ear: socket.socket) -> list[str]:
    """What has been said and not been heard."""
    words = []
    ear.setblocking(False)
    try:
        while True:
            words.append(ear.recv(4096).decode())
    except BlockingIOError:
        return words


@pytest.mark.promise("hang-supervisor")
def test_systemd_is_notified_of_readiness_and_liveness(
    serve: Any, ear: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", ear.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    options = ("--port", "0", "--server.http_port", "none", "--run", str(tmp_path / "run"))
    server = serve(*options, typed=True)
    assert ear.recv(4096) == b"READY=1"
    assert {ear.recv(4096) for _ in range(5)} == {b"WATCHDOG=1"}
    server.stop()
    assert server.finish() == (0, "")
    words = heard(ear)
    assert words[-1] == "STOPPING=1"
    assert set(words[:-1]) <= {"WATCHDOG=1"}


def test_watchdog_is_notified_at_the_requested_interval(
    ear: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("server.supervisor.sd_notify.time.monotonic", lambda: now)
    manager = ServiceManager({"NOTIFY_SOCKET": ear.getsockname(), "WATCHDOG_USEC": "4000000"})
    for said in (1, 0, 0, 0, 1, 0):
        manager.beat()
        assert heard(ear) == ["WATCHDOG=1"] * said
        now += 0.25


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}],
)
def test_watchdog_without_interval_is_not_notified(
    ear: socket.socket, environment: dict[str, str]
) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": ear.getsockname(), **environment})
    manager.beat()
    assert heard(ear) == []
    manager.ready()
    assert heard(ear) == ["READY=1"]


@pytest.mark.promise("ready-when-loaded")
def test_systemd_gives_a_run_that_is_being_loaded_more_time_and_is_told_when_games_can_play(
    ear: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("server.supervisor.sd_notify.time.monotonic", lambda: now)
    manager = ServiceManager({"NOTIFY_SOCKET": ear.getsockname(), "WATCHDOG_USEC": "4000000"})
    status = SimpleNamespace(loading="the run is being loaded", unready="the run is being loaded")
    words = []
    for _ in range(20):
        manager.look(cast(Any, status))
        words += heard(ear)
        now += 1.0
    more = "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=the run is being loaded"
    assert words == [more] * 4
    status.loading = status.unready = ""
    manager.look(cast(Any, status))
    manager.look(cast(Any, status))
    assert heard(ear) == ["READY=1", "STATUS=games can play", "WATCHDOG=1"]


def test_systemd_gives_slow_gateways_more_time(
    ear: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("server.supervisor.sd_notify.time.monotonic", lambda: now)
    manager = ServiceManager({"NOTIFY_SOCKET": ear.getsockname()})
    status = SimpleNamespace(loading="", unready="the gateways are starting")
    manager.look(cast(Any, status))
    assert heard(ear) == []
    now += 11.0
    manager.look(cast(Any, status))
    assert heard(ear) == ["EXTEND_TIMEOUT_USEC=60000000\nSTATUS=the gateways are starting"]


def test_abstract_notify_address_is_used() -> None:
    name = f"understudy-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert heard(sock) == ["READY=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/no/such/socket"}])
def test_notify_without_socket_does_nothing(environment: dict[str, str]) -> None:
    manager = ServiceManager(environment)
    manager.ready()
    manager.beat()
    manager.stopping()
