"""An HTTP server of this process with nothing behind it, and raw requests to it."""

from __future__ import annotations

import http.client
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from config.models import Config
from server.control.mailbox import Mailbox
from server.monitor.metrics import SERIES
from server.monitor.status import Status
from server.run.logs import logged
from server.web.connections import ENOUGH, Room
from server.web.server import HttpServer

TOKEN = "a control token of this test"


@contextmanager
def web_server(folder: Path, *, room: Room = ENOUGH) -> Iterator[tuple[HttpServer, Path]]:
    """The server, and its log. `room`: for so many."""
    folder.mkdir(exist_ok=True)
    now = float("inf")  # its loop has come round just now
    status = Status(
        config=Config(), folder=folder, launch=1, started=5.0, looped_at=now, port=7777,
        ready=True, last=dict.fromkeys(SERIES, 1.0), games=({"session": 7},),
    )  # fmt: skip
    log = folder / "understudy.log"
    log.touch()
    with logged(log) as file:
        file.begin()
        mailbox = Mailbox(lambda _request, _who: {"ok": True, "text": "done"})
        with HttpServer(
            "127.0.0.1", 0, lambda: status, mailbox, control_token=TOKEN, room=room
        ) as server:
            yield server, log
        for name in ("asyncio", "uvicorn.error"):
            logging.getLogger(name).setLevel(logging.NOTSET)


class Answer:
    """What came back: a status of 0 where the connection was closed without one."""

    def __init__(self, sock: socket.socket, method: str) -> None:
        self.status, self.type, self.body = 0, "", b""
        try:
            response = http.client.HTTPResponse(sock, method=method)
            response.begin()
            self.body = response.read()
            self.status, self.type = response.status, response.getheader("content-type") or ""
        except (http.client.HTTPException, ConnectionError):
            return


def exchange(port: int, sent: bytes, method: str = "GET", timeout_s: float = 20.0) -> Answer:
    """Send this over a connection of its own; the answer to it."""
    with socket.create_connection(("127.0.0.1", port), timeout_s) as sock:
        with suppress(ConnectionError):
            sock.sendall(sent)
        return Answer(sock, method)


def get(port: int, target: str, *headers: str) -> Answer:
    """A request as a client makes it; `headers`: further lines."""
    lines = [f"GET {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    return exchange(port, "\r\n".join(lines).encode("latin-1"))
