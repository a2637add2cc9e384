"""What systemd is told, at a socket as it makes one."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
def test_it_is_told_when_games_can_connect_and_that_the_server_lives(
    serve: Any, ear: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", ear.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    server = serve("--port", "0", "--server.http_port", "none", "--run", str(tmp_path / "run"))
    assert ear.recv(4096) == b"READY=1"
    assert {ear.recv(4096) for _ in range(5)} == {b"WATCHDOG=1"}
    server.stop()
    assert server.finish() == (0, "")
    words = heard(ear)
    assert words[-1] == "STOPPING=1"
    assert set(words[:-1]) <= {"WATCHDOG=1"}


def test_it_hears_of_the_loop_as_often_as_it_asks_for(
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
def test_who_wants_no_signs_of_life_gets_none(
    ear: socket.socket, environment: dict[str, str]
) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": ear.getsockname(), **environment})
    manager.beat()
    assert heard(ear) == []
    manager.ready()
    assert heard(ear) == ["READY=1"]


def test_an_abstract_address_is_one() -> None:
    name = f"understudy-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert heard(sock) == ["READY=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/no/such/socket"}])
def test_without_anybody_who_hears_nothing_happens(environment: dict[str, str]) -> None:
    manager = ServiceManager(environment)
    manager.ready()
    manager.beat()
    manager.stopping()
