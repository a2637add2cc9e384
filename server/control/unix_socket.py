"""`ControlSocket` and its client `ask`: a Unix socket in the run's folder, for this user alone.

A request is a line of JSON, and so is its answer (server.control.controller):

    {"set": {"expert.ratio": 0.2}}  ->  {"changes": [{"key": ..., "from": ..., "to": ...}, ...]}
                                    or  {"error": "what is wrong, and what to do"}

It is served by the supervisor's own loop, so nothing here waits for anybody. Who asks for what
takes a while (a checkpoint) is not listened to until it has its answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from server.control.mailbox import Answer, Handler, parse

NAME = "control.sock"

MAX_REQUEST_BYTES = 65_536
MAX_CONNECTIONS = 8

DEAF_S = 1.0
"""After an accept that failed."""

ANSWER_S = 30.0
"""How long one who asks waits for the answer: a checkpoint may be on its way to the disk."""


class ControlSocket:
    """Listens, and answers what it is asked. `waitables` are what to wait for; `serve` then."""

    def __init__(self, folder: Path, handle: Handler) -> None:
        """Errors: OSError where the folder's file system has no sockets, say."""
        self._path = folder / NAME
        self._handle = handle
        self._heard: dict[socket.socket, bytes] = {}
        self._answering: set[socket.socket] = set()
        """Those who wait for an answer."""
        self._deaf_until = 0.0
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            # Before it has a name, so that nobody else can ever connect.
            os.fchmod(self._listener.fileno(), 0o600)
            self._path.unlink(missing_ok=True)  # of a server that was killed: the folder is ours
            with _short(folder) as name:
                self._listener.bind(name)
            self._listener.listen()
            self._listener.setblocking(False)
        except BaseException:
            self._listener.close()
            raise

    @property
    def waitables(self) -> list[socket.socket]:
        """Readable when there is something to do."""
        found = [each for each in self._heard if each not in self._answering]
        if time.monotonic() >= self._deaf_until:
            found.append(self._listener)
        return found

    def serve(self, ready: socket.socket) -> None:
        """One of `waitables` is readable."""
        if ready is not self._listener:
            if ready in self._heard:  # not dropped since it was waited for
                self._hear(ready)
            return
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:  # gone again
            return
        except OSError:  # no file descriptor is left: it stays readable, and nothing can be done
            self._deaf_until = time.monotonic() + DEAF_S
            return
        client.setblocking(False)
        if len(self._heard) < MAX_CONNECTIONS:
            self._heard[client] = b""
        else:
            self._answer(client, {"error": "too many programs ask at once; try again"})
            client.close()

    def close(self) -> None:
        """Hear nobody any more. Again has no effect."""
        for client in list(self._heard):
            self._drop(client)
        if self._listener.fileno() >= 0:
            self._listener.close()
            self._path.unlink(missing_ok=True)

    def _hear(self, client: socket.socket) -> None:
        try:
            data = client.recv(MAX_REQUEST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._heard[client] += data
        self._requests(client)
        if not data and client in self._heard and client not in self._answering:
            self._drop(client)

    def _requests(self, client: socket.socket) -> None:
        """Answer the lines that have come, up to one whose answer takes a while."""
        while client in self._heard and client not in self._answering:
            line, end, rest = self._heard[client].partition(b"\n")
            if not end:
                if len(line) > MAX_REQUEST_BYTES:
                    text = f"expected a line of at most {MAX_REQUEST_BYTES} bytes, got more"
                    self._answer(client, {"error": text})
                    self._drop(client)
                return
            self._heard[client] = rest
            answer = self._request(line)
            if isinstance(answer, Future):
                self._answering.add(client)
                answer.add_done_callback(lambda done: self._done(client, done.result()))
            elif not self._answer(client, answer):
                self._drop(client)

    def _done(self, client: socket.socket, answer: Answer) -> None:
        """The answer that this one has waited for is there."""
        if client in self._heard:
            self._answering.remove(client)
            if self._answer(client, answer):
                self._requests(client)
            else:
                self._drop(client)

    def _request(self, line: bytes) -> Answer | Future[Answer]:
        try:
            request = parse(line)
        except ValueError:
            return {"error": 'expected a line of JSON such as {"set": {"expert.ratio": 0.2}}'}
        return self._handle(request)

    def _answer(self, client: socket.socket, answer: Answer) -> bool:
        """Whether it could be said. The buffer holds far more than an answer has."""
        try:
            client.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:  # gone, or it does not read
            return False
        return True

    def _drop(self, client: socket.socket) -> None:
        del self._heard[client]
        self._answering.discard(client)
        client.close()


def ask(folder: Path, request: Any, timeout_s: float = ANSWER_S) -> dict[str, Any]:
    """Ask the server that runs in this folder; its answer.

    Errors: ConnectionError where none runs there or it goes away, TimeoutError.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout_s)
        try:
            with _short(folder) as name:
                sock.connect(name)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise ConnectionError(
                f"no server is running for {folder}; pass the folder of a run that is being served"
            ) from None
        except PermissionError:
            raise ConnectionError(
                f"the server of {folder} belongs to another user; run this command as that user"
            ) from None
        sock.sendall(json.dumps(request).encode() + b"\n")
        with sock.makefile("rb") as answers:
            line = answers.readline()
    if not line.endswith(b"\n"):
        raise ConnectionError(f"the server of {folder} ended before it answered")
    answer: dict[str, Any] = json.loads(line)
    return answer


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """The socket's name by way of the open folder: the name of a socket has 108 bytes at most, and
    a folder's may have more."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)
