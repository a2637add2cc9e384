"""Requests from other threads to the supervisor's loop, which answers them in its own time."""

from __future__ import annotations

import contextlib
import queue
import socket
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import msgspec

from config.changes import Change

Answer = dict[str, Any]

Handler = Callable[[Any], Answer | Future[Answer]]
"""From a request to its answer, at once or in a while. Errors are answers too: {"error": text}."""

NOT_NOW: Answer = {"error": "the server is starting or stopping; ask again when it runs"}


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
        self._ends: tuple[socket.socket, socket.socket] | None = None
        """The loop's, and that of those who ask: a byte for each request, since a socket is
        something that a loop can wait for. None before `open` and after `close`."""

    def open(self) -> None:
        """The loop begins: what is asked from now on is answered."""
        ends = socket.socketpair()
        for end in ends:
            end.setblocking(False)
        self._ends = ends

    @property
    def waitables(self) -> list[socket.socket]:
        """Readable when somebody asks."""
        return [] if self._ends is None else [self._ends[0]]

    def ask(self, request: Any, who: str) -> Future[Answer]:
        """Have the loop answer. The future's result is the answer."""
        future: Future[Answer] = Future()
        self._queue.put((request, who, future))
        ends = self._ends
        if ends is None:
            self._refuse()
        else:
            with contextlib.suppress(OSError):  # full, so there are enough; or closed just now
                ends[1].send(b"\0")
        return future

    def serve(self, ready: socket.socket) -> None:
        """Answer what has been asked."""
        with contextlib.suppress(BlockingIOError):
            ready.recv(65_536)
        for request, who, future in self._take():
            answer = self._handle(request, who)
            if isinstance(answer, Future):
                answer.add_done_callback(_passed_on(future))
            else:
                future.set_result(answer)

    def close(self) -> None:
        """Answer nobody any more. Again has no effect."""
        ends, self._ends = self._ends, None
        for end in ends or ():
            end.close()
        self._refuse()

    def _refuse(self) -> None:
        for _, _, future in self._take():
            future.set_result(NOT_NOW)

    def _take(self) -> list[tuple[Any, str, Future[Answer]]]:
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._queue.get_nowait())
        return found


def _passed_on(to: Future[Answer]) -> Callable[[Future[Answer]], None]:
    return lambda done: to.set_result(done.result())


def text_of(answer: dict[str, Any]) -> str:
    """An answer of server.control.controller that is no error, for a person."""
    if "text" in answer:
        return str(answer["text"])
    changes = [Change(each["key"], each["from"], each["to"]) for each in answer["changes"]]
    if not changes:
        return "nothing to change: all of these have their values already"
    return "\n".join(map(str, changes))
