"""A server of a few lines, written from the wire alone, for the tests of clients."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

import msgspec

FIELDS = {"session": 7, "protocol": 1, "server": "fake/1", "settings": {"level": 1}}


class Peer:
    """The server's side of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def recv(self) -> Any:
        """The next message; None at the end."""
        length = self._exactly(4)
        if length is None:
            return None
        body = self._exactly(struct.unpack(">I", length)[0])
        return None if body is None else msgspec.msgpack.decode(body)

    def send(self, *messages: Any) -> None:
        self.sock.sendall(b"".join(framed(message) for message in messages))

    def answer(self, frame: list[Any], action: Any = (1, -0.25), actor: int = 1) -> None:
        if frame[5]:
            action, actor = None, 0
        self.send([12, frame[1], frame[2], action, actor, 5, False])

    def welcome(self, session: int = 7) -> Any:
        hello = self.recv()
        self.send([11, {**FIELDS, "session": session}])
        return hello

    def _exactly(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            try:
                piece = self.sock.recv(count - len(data))
            except OSError:
                return None
            if not piece:
                return None
            data += piece
        return data


def framed(message: Any) -> bytes:
    body = msgspec.msgpack.encode(message)
    return struct.pack(">I", len(body)) + body


class FakeServer:
    """Runs one script for each connection, the last one for all that follow."""

    def __init__(self, *scripts: Callable[[Peer], None]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.scripts = scripts
        self.connections = 0
        self.errors: list[BaseException] = []
        self.threads: list[threading.Thread] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            script = self.scripts[min(self.connections, len(self.scripts) - 1)]
            self.connections += 1
            thread = threading.Thread(target=self._run, args=(script, sock), daemon=True)
            thread.start()
            self.threads.append(thread)

    def _run(self, script: Callable[[Peer], None], sock: socket.socket) -> None:
        sock.settimeout(10.0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sock:
            try:
                script(Peer(sock))
                _hang_up(sock)
            except BaseException as error:
                self.errors.append(error)

    def close(self) -> None:
        if not self.thread.is_alive():
            return
        # Shut down first: closing alone does not wake a thread that waits in accept().
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in [self.thread, *self.threads]:
            thread.join(5.0)
            assert not thread.is_alive(), "a script still waits for its client"
        assert not self.errors, self.errors


def _hang_up(sock: socket.socket) -> None:
    """Close it so that the client reads an end, and not a reset, which it would be where something
    of its own has not been read."""
    with contextlib.suppress(OSError):  # the client may be gone, or wait for long
        sock.settimeout(1.0)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
