"""Requests from other threads to the supervisor's loop, which answers them in its own time."""

from __future__ import annotations

import contextlib
import queue
import socket
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import msgspec

Answer = dict[str, Any]

Handler = Callable[[Any], Answer | Future[Answer]]
"""From a request to its answer, at once or in a while. Errors are answers too: {"error": text}."""

STOPPING: Answer = {"error": "the server is stopping; ask again when it is back"}


def parse(data: bytes) -> Any:
    """A request in JSON. Errors: ValueError, for numbers that are not finite too."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None


class Mailbox:
    """`ask` from any thread; `waitables` and `serve` are for the loop, as those of ControlSocket
    are."""

    def __init__(self, handle: Callable[[Any, str], Answer | Future[Answer]]) -> None:
        """`handle` gets the request and who asks; it is called in the loop's thread."""
        self._handle = handle
        self._queue: queue.SimpleQueue[tuple[Any, str, Future[Answer]]] = queue.SimpleQueue()
        # A byte for each request: a socket is something that a loop can wait for.
        self._loop_end, self._asking_end = socket.socketpair()
        self._loop_end.setblocking(False)
        self._asking_end.setblocking(False)
        # A supervisor that was never started need not be stopped: its sockets go with it.
        for end in (self._loop_end, self._asking_end):
            weakref.finalize(self, end.close)
        self._closed = False

    @property
    def waitables(self) -> list[socket.socket]:
        """Readable when somebody asks."""
        return [] if self._closed else [self._loop_end]

    def ask(self, request: Any, who: str) -> Future[Answer]:
        """Have the loop answer. The future's result is the answer."""
        future: Future[Answer] = Future()
        if self._closed:
            future.set_result(STOPPING)
            return future
        self._queue.put((request, who, future))
        with contextlib.suppress(OSError):  # full: then the loop has bytes enough to wake up
            self._asking_end.send(b"\0")
        return future

    def serve(self, _ready: socket.socket) -> None:
        """Answer what has been asked."""
        with contextlib.suppress(BlockingIOError):
            self._loop_end.recv(65_536)
        for request, who, future in self._take():
            answer = self._handle(request, who)
            if isinstance(answer, Future):
                answer.add_done_callback(_passed_on(future))
            else:
                future.set_result(answer)

    def close(self) -> None:
        """Answer nobody any more. Again has no effect."""
        self._closed = True
        for _, _, future in self._take():
            future.set_result(STOPPING)
        self._loop_end.close()
        self._asking_end.close()

    def _take(self) -> list[tuple[Any, str, Future[Answer]]]:
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._queue.get_nowait())
        return found


def _passed_on(to: Future[Answer]) -> Callable[[Future[Answer]], None]:
    return lambda done: to.set_result(done.result())
