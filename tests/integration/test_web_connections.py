"""Connections of HTTP that are silent, slow, or do not read keep nobody out."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.net import open_files
from server.web import app, connections
from server.web.server import HttpServer
from tests.support.web import Answer, get, web_server


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[HttpServer, Path]]:
    with web_server(tmp_path / "run") as one:
        yield one


def connected(stack: ExitStack, port: int) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), 20.0))


def closed(sock: socket.socket) -> bool:
    """Whether the server has closed it by now."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def healthy(port: int, path: str = "/healthz") -> float:
    """Ask, and get 200; the seconds that it took."""
    begin = time.monotonic()
    answer = get(port, path)
    assert answer.status == 200, (answer.status, answer.body)
    return time.monotonic() - begin


@pytest.mark.promise("http-crowd")
def test_silent_and_dripping_connections_leave_health_and_pages(
    served: tuple[HttpServer, Path],
) -> None:
    port = served[0].port
    with ExitStack() as stack:
        held = [connected(stack, port) for _ in range(200)]
        stop = threading.Event()

        def drip() -> None:
            request, at = b"GET /api/state HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 9999, 0
            while not stop.is_set():
                for sock in held[::2]:
                    try:
                        sock.send(request[at : at + 1])
                    except OSError:
                        continue
                at += 1
                stop.wait(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            for _ in range(20):
                assert max(healthy(port), healthy(port, "/readyz")) < 5.0
            page = get(port, "/")
            links = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.body.decode())
            assert len(links) > 2
            for link in links:
                assert get(port, link).status == 200, link
            assert get(port, "/api/state").status == 200
        finally:
            stop.set()
            thread.join()
        assert not closed(held[-1]), "the newest stay"
        assert closed(held[0]), "the oldest make room"
    assert served[1].stat().st_size < 40_000


@pytest.mark.promise("http-crowd")
def test_clients_that_do_not_read_are_dropped_for_new_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "exposition", lambda _: b"x" * 16_000_000)
    room = connections.Room(requests=6)
    with web_server(tmp_path / "run", room=room) as (server, _), ExitStack() as stack:
        for _ in range(9):
            sock = connected(stack, server.port)
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sock.recv(1) == b"H"
        assert healthy(server.port) < 5.0
        assert healthy(server.port, "/api/state") < 5.0


@pytest.mark.promise("http-crowd")
def test_requests_over_the_limit_get_503_and_health_is_answered(
    tmp_path: Path,
) -> None:
    with web_server(tmp_path / "run", room=connections.Room(requests=0)) as (server, _):
        answer = get(server.port, "/api/state")
        assert (answer.status, b"ask again" in answer.body) == (503, True)
        healthy(server.port)
        healthy(server.port, "/readyz")


def test_address_with_the_most_connections_makes_room_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "address_of", str)  # loopback is one address else

    def from_address(stack: ExitStack, address: str) -> socket.socket:
        return stack.enter_context(
            socket.create_connection(("127.0.0.1", port), 20.0, (address, 0))
        )

    with (
        web_server(tmp_path / "run", room=connections.Room(12)) as (server, _),
        ExitStack() as stack,
    ):
        port = server.port
        first = from_address(stack, "127.0.0.9")
        many = [from_address(stack, "127.0.0.2") for _ in range(11)]
        for _ in range(5):
            healthy(port)
        late = [from_address(stack, "127.0.0.3") for _ in range(3)]
        healthy(port)
        assert not closed(first)
        assert not any(map(closed, late))
        assert [closed(sock) for sock in many[:3]] == [True] * 3


@pytest.mark.promise("few-open-files")
def test_last_open_files_are_not_taken_by_connections(
    served: tuple[HttpServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = served[0].port
    with ExitStack() as stack:
        first = connected(stack, port)
        most = first.fileno() + 60  # both ends are of this process
        monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: (most, most))
        held = [connected(stack, port) for _ in range(60)]
        for _ in range(5):
            healthy(port)
        assert closed(first)
        assert sum(map(closed, held)) > 20


def test_body_behind_an_answer_is_not_read_for_ever(served: tuple[HttpServer, Path]) -> None:
    with socket.create_connection(("127.0.0.1", served[0].port), 20.0) as sock:
        sock.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert Answer(sock, "GET").status == 200
        with pytest.raises(OSError):  # noqa: PT012
            for _ in range(100_000):
                sock.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            raise AssertionError("it reads whatever comes")
