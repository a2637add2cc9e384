"""Servers and clients that break one rule each, for the tests of the conformance checks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from tests.support.running import RawClient, framed, obs_of

Bend = Callable[[list[Any], dict[str, Any]], list[bytes] | None]
"""A server's message and what the proxy remembers of the connection; the bytes that go on instead,
None for those that came. Raising OSError ends the connection."""


class Proxy:
    """Stands before a server and bends what it says."""

    def __init__(self, port: int, bend: Bend, *, keep_open: bool = False) -> None:
        self._upstream = port
        self._bend = bend
        self._keep_open = keep_open
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(5.0)
        for sock in self._sockets:
            with_shutdown(sock)
        for thread in self._threads:
            thread.join(5.0)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._upstream))
            self._sockets += [client, server]
            pairs = [(self._there, client, server), (self._back, server, client)]
            for what, a, b in pairs:
                for sock in (a, b):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=what, args=(a, b))
                self._threads.append(thread)
                thread.start()

    def _there(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            with_shutdown(server)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        memory: dict[str, Any] = {}
        rest = b""
        try:
            while data := server.recv(65536):
                rest += data
                while len(rest) >= 4 and len(rest) >= 4 + (n := int.from_bytes(rest[:4], "big")):
                    one, rest = rest[: 4 + n], rest[4 + n :]
                    instead = self._bend(msgspec.msgpack.decode(one[4:]), memory)
                    client.sendall(one if instead is None else b"".join(instead))
        except OSError:
            pass
        if not self._keep_open:
            with_shutdown(client)


def with_shutdown(sock: socket.socket) -> None:
    """Close a socket that another thread may be waiting on."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


@contextmanager
def bent(port: int, bend: Bend, **more: Any) -> Iterator[int]:
    """The port of a server that is bent."""
    proxy = Proxy(port, bend, **more)
    try:
        yield proxy.port
    finally:
        proxy.close()


def changed(kind: int, index: int, value: Callable[[Any], Any]) -> Bend:
    """Messages of a type with one element replaced, where the new value is another."""

    def bend(message: list[Any], _memory: dict[str, Any]) -> list[bytes] | None:
        if message[0] != kind:
            return None
        return [framed([*message[:index], value(message[index]), *message[index + 1 :]])]

    return bend


HELLO = {
    "protocol": 1,
    "client": "raw/1",
    "game": "raw",
    "observation": ["float32", [3]],
    "actions": [["discrete", "fire", 3], ["continuous", "turn", -1.0, 1.0, 1]],
}
EXPERT = [1, 0.5]


class Closed(Exception):
    """The server has ended the connection."""


class RawGame:
    """A client of few lines that keeps the rules. Its subclasses break one each."""

    episode = 7
    first_wait_s = 0.04

    def __init__(self, port: int) -> None:
        self.port = port
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._guarded)
        self.thread.start()

    def _guarded(self) -> None:
        try:
            self.run()
        except BaseException as error:
            self.failure = error

    def run(self) -> None:
        wait = self.first_wait_s
        while True:
            try:
                wire = RawClient(self.port, timeout_s=3.0)
            except OSError:
                return  # the check is over
            with wire:
                try:
                    self.wire = wire
                    self.begin()
                    wait = self.first_wait_s
                    self.play()
                except Closed as closed:
                    if not self.again(closed.args[0]):
                        return
                except (OSError, ConnectionError):
                    pass
            time.sleep(self.longer(wait))
            wait *= 2

    def longer(self, wait: float) -> float:
        return wait

    def again(self, error: list[Any] | None) -> bool:
        return error is None or error[3]

    def hello(self) -> dict[str, Any]:
        return HELLO

    def begin(self) -> None:
        self.wire.send([1, self.hello()])
        self.answer(11)

    def play(self) -> None:
        self.seq = self.tick = 0
        while True:
            self.step()

    def step(self) -> None:
        status = 1 if self.tick == self.episode else 0
        self.wire.send(self.frame(status))
        self.answer(12)
        self.seq += 1
        self.tick = 0 if status else self.tick + 1

    def frame(self, status: int) -> list[Any]:
        took = [EXPERT, 2] if self.tick == 3 else None
        return [2, 0, self.seq, obs_of(1.0), 0.5, status, EXPERT, took]

    def answer(self, kind: int) -> list[Any]:
        while True:
            message = self.wire.recv()
            if message is None or message[0] == 15:
                raise Closed(message)
            if message[0] == kind:
                return list(message)
            self.other(message)

    def other(self, message: list[Any]) -> None:
        """A message that is no answer."""
