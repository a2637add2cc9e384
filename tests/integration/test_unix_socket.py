from __future__ import annotations

import errno
import json
import select
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.control import unix_socket
from server.control.unix_socket import MAX_CONNECTIONS, MAX_REQUEST_BYTES, NAME, ControlSocket, ask


class Ear:
    """A control socket that a thread serves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[Any] = []
        self.socket = ControlSocket(folder, self.handle)
        self._stop = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def handle(self, request: Any) -> dict[str, Any]:
        self.requests.append(request)
        return {"n": len(self.requests)}

    def _serve(self) -> None:
        while not self._stop:
            for ready in select.select(self.socket.waitables, [], [], 0.02)[0]:
                self.socket.serve(ready)

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(5.0)
        with unix_socket._short(self.folder) as name:
            client.connect(name)
        return client

    def close(self) -> None:
        self._stop = True
        self._thread.join()
        self.socket.close()


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    one = Ear(tmp_path)
    yield one
    one.close()


def line_of(client: socket.socket) -> Any:
    data = b""
    while not data.endswith(b"\n"):
        data += client.recv(1)
    return json.loads(data)


def test_request_line_is_answered_by_one_line(ear: Ear) -> None:
    assert ask(ear.folder, {"set": {"a.b": 0.5}}) == {"n": 1}
    assert ear.requests == [{"set": {"a.b": 0.5}}]


def test_socket_is_accessible_to_its_owner_only(ear: Ear) -> None:
    mode = (ear.folder / NAME).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) & 0o177 == 0


def test_split_and_combined_requests_are_answered(ear: Ear) -> None:
    with ear.connect() as client:
        client.sendall(b'{"a"')
        client.sendall(b": 1}\n")
        assert line_of(client) == {"n": 1}
        client.sendall(b"2\n3\n4")
        assert line_of(client) == {"n": 2}
        assert line_of(client) == {"n": 3}
        client.sendall(b"2\n")
        assert line_of(client) == {"n": 4}
    assert ear.requests == [{"a": 1}, 2, 3, 42]


@pytest.mark.parametrize("bad", [b"set x\n", b"\xff\xfe\n", b"\n", b"[" * 60_000 + b"\n"])
def test_request_that_is_no_json_is_refused_and_disturbs_nobody(ear: Ear, bad: bytes) -> None:
    with ear.connect() as client:
        client.sendall(bad)
        assert "expected a line of JSON" in line_of(client)["error"]
        client.sendall(b"1\n")
        assert line_of(client) == {"n": 1}


def test_endless_request_line_is_disconnected(ear: Ear) -> None:
    with ear.connect() as client:
        client.sendall(b"x" * (MAX_REQUEST_BYTES + 1))
        assert "at most 65536 bytes" in line_of(client)["error"]
        assert client.recv(10) == b""
    assert ask(ear.folder, 1) == {"n": 1}


def test_silent_or_gone_client_delays_nobody(ear: Ear) -> None:
    with ear.connect() as silent, ear.connect() as gone:
        gone.sendall(b"half a line")
        gone.close()
        assert ask(ear.folder, 1) == {"n": 1}
        silent.sendall(b"2\n")
        assert line_of(silent) == {"n": 2}


def test_client_that_does_not_read_is_dropped(ear: Ear) -> None:
    with ear.connect() as client:
        client.setblocking(False)
        for _ in range(10_000):
            try:
                client.sendall(b"1\n" * 1000)
            except OSError:
                break
        else:
            pytest.fail("it is listened to for ever")
        assert ask(ear.folder, 1)["n"] > 0


def test_too_many_connections_are_refused_with_a_message(ear: Ear) -> None:
    clients = [ear.connect() for _ in range(MAX_CONNECTIONS + 1)]
    assert "too many" in line_of(clients[-1])["error"]
    for client in clients:
        client.close()
    deadline = time.monotonic() + 10.0
    while ask(ear.folder, 1) != {"n": 1}:  # it has yet to see that they are gone
        assert time.monotonic() < deadline


@pytest.mark.promise("few-open-files")
def test_accept_without_descriptors_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = ControlSocket(tmp_path, lambda _: {})
    (listener,) = one.waitables

    def fail(_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "accept", fail)
        patched.setattr(unix_socket, "DEAF_S", 0.2)
        one.serve(listener)
    assert one.waitables == [], "else the loop would come round as fast as it can"
    time.sleep(0.25)
    assert one.waitables == [listener]
    one.close()


def test_folder_path_may_be_longer_than_a_socket_address(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 30) / ("er" * 60)
    folder.mkdir(parents=True)
    assert len(str(folder)) > 200
    ear = Ear(folder)
    try:
        assert ask(folder, 1) == {"n": 1}
    finally:
        ear.close()
    assert not (folder / NAME).exists()


def test_socket_left_by_a_killed_server_is_replaced(tmp_path: Path) -> None:
    first = ControlSocket(tmp_path, lambda _: {})
    first._listener.close()
    assert (tmp_path / NAME).exists()
    with pytest.raises(ConnectionError, match="no server is running for"):
        ask(tmp_path, 1)
    ear = Ear(tmp_path)
    assert ask(tmp_path, 1) == {"n": 1}
    ear.close()
    ear.socket.close()  # again


@pytest.mark.parametrize("folder", ["", "no-such-folder", "file"])
def test_request_without_server_says_so(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConnectionError, match="pass the folder of a run"):
        ask(tmp_path / folder, 1)


def test_server_that_ends_before_answering_is_reported(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        with unix_socket._short(tmp_path) as name:
            listener.bind(name)
        listener.listen()
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        with pytest.raises(ConnectionError):  # said by us or by the system, as it happens
            ask(tmp_path, 1)
        thread.join()


def test_folder_that_cannot_hold_a_socket_leaves_nothing_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    (tmp_path / NAME).mkdir()
    with pytest.raises(OSError):
        ControlSocket(tmp_path, lambda _: {})
    assert len(list(Path("/proc/self/fd").iterdir())) == before
