"""A server that may have few open files: connections of strangers take none that it needs."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from server.run.events import process_ids, read_events
from tests.support.processes import descendants
from tests.support.running import RawClient
from tests.support.serve import SMALL, Serve
from tests.support.web import get

FILES = 256


@pytest.fixture
def served(serve: Callable[..., Serve], tmp_path: Path) -> tuple[Serve, Path, int]:
    """The server, its run's folder, and the port of HTTP."""
    config = tmp_path / "server.toml"
    config.write_text(SMALL)
    run = tmp_path / "run"
    one = serve(
        "--config", str(config), "--run", str(run), "--server.http_port", "0", open_files=FILES
    )
    return one, run, int(one.wait_for(r"http://127\.0\.0\.1:(\d+)/")[1])


def opened(stack: ExitStack, port: int, count: int) -> list[socket.socket]:
    return [
        stack.enter_context(socket.create_connection(("127.0.0.1", port), 20.0))
        for _ in range(count)
    ]


def until(condition: Callable[[], bool], what: str, timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


@pytest.mark.timeout(300)
@pytest.mark.promise("few-open-files")
def test_crowd_on_both_ports_leaves_files_to_restart_a_gateway(
    served: tuple[Serve, Path, int],
) -> None:
    server, run, web = served
    log = run / "understudy.log"
    with ExitStack() as stack:
        game = stack.enter_context(RawClient(server.port, 120.0).welcome())
        assert game.frame(0)[0] == 12
        before = log.stat().st_size
        opened(stack, web, 2 * FILES)
        crowd = opened(stack, server.port, 2 * FILES)
        assert get(web, "/healthz").status == 200
        assert game.frame(1)[0] == 12
        told: list[str] = []
        until(lambda: bool(told.extend(_told(crowd)) or told), "who finds no room is told")
        assert all("ulimit -n" in text for text in told)
        used = list(Path(f"/proc/{server.process.pid}/fd").iterdir())
        assert len(used) < FILES - 30, "some are kept for the server itself"

        gateway = process_ids(read_events(run))["gateway-0"]
        os.kill(gateway, signal.SIGKILL)
        until(lambda: process_ids(read_events(run))["gateway-0"] != gateway, "it is restarted")
        until(lambda: get(web, "/readyz").status == 200, "games can play")
        assert log.stat().st_size - before < 200_000
    with RawClient(server.port, 120.0) as again:
        assert again.welcome().frame(0)[0] == 12
    assert process_ids(read_events(run))["gateway-0"] in descendants(server.process.pid)


def _told(crowd: list[socket.socket]) -> list[str]:
    """What some were told before they were closed."""
    found = []
    for sock in crowd:
        sock.setblocking(False)
        with suppress(OSError):
            found.append(sock.recv(4096).decode("latin-1"))
    return [text for text in found if text]
