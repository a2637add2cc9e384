"""HTTP in a thread of its own: a request that is slow or wrong delays nobody else."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

import uvicorn

from config.load import Loaded
from server.control.mailbox import Mailbox
from server.monitor.status import Status
from server.net.listener import Listener
from server.net.sockets import cannot_listen
from server.net.tls import Certificate
from server.web.app import make_app
from server.web.auth import TokenAuth
from server.web.connections import ENOUGH, HEADER_BYTES, HttpConnection, HttpConnections, Room

log = logging.getLogger("http")

HANDSHAKE_S = 10.0
"""Time limit for a TLS handshake."""

STOP_S = 5.0


def any_http_port(loaded: Loaded) -> bool:
    """Whether HTTP may be on another port than the one in the settings: nobody chose it for this
    start."""
    return loaded.origins["server.http_port"].startswith(("default", "preset ", "run "))


class UvicornServer(uvicorn.Server):
    """uvicorn's server, whose connections are accepted and counted by us."""

    def __init__(
        self,
        config: uvicorn.Config,
        connections: HttpConnections,
        certificate: Certificate | None,
        handshakes: int,
    ) -> None:
        super().__init__(config)
        self._connections = connections
        self._certificate = certificate
        self._handshakes = handshakes

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        for sock in sockets or []:
            listener: Any = Listener(
                sock,
                self._protocol,
                self._certificate,
                handshake_s=HANDSHAKE_S,
                handshakes=self._handshakes,
            )
            self.servers.append(listener)

    def _protocol(self) -> asyncio.Protocol:
        return HttpConnection(
            self._connections, self.config, self.server_state, self.lifespan.state
        )


class HttpServer:
    """Serves until `stop`. Use it as a context manager."""

    def __init__(
        self,
        host: str,
        port: int,
        status: Callable[[], Status],
        mailbox: Mailbox,
        *,
        names: Iterable[str] = (),
        control_token: str | None = None,
        certificate: Certificate | None = None,
        or_any_port: bool = False,
        room: Room = ENOUGH,
    ) -> None:
        """`status`: gets the newest snapshot. `names`: those that it answers to beside localhost
        and literal addresses. `control_token`: None disables the controls. `certificate`: serve
        HTTPS only. `or_any_port`: if the port is in use, take another one. `room`: for how many
        there are open files. Errors: ConfigError if it cannot listen."""
        self._socket = _listen(host, port, or_any_port)
        self.port: int = self._socket.getsockname()[1]
        self.host = host
        connections = HttpConnections(room)
        config = uvicorn.Config(
            make_app(status, mailbox, TokenAuth(control_token), connections, names),
            loop="asyncio",
            http=HttpConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # what it warns of, HttpConnection says with the address
            access_log=False,
            server_header=False,
            h11_max_incomplete_event_size=HEADER_BYTES,
            timeout_graceful_shutdown=1,
            proxy_headers=False,
        )
        self._server = UvicornServer(config, connections, certificate, room.handshakes)
        self._scheme = "https" if certificate else "http"
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address for a browser."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def stop(self) -> None:
        """Stop serving. A second call has no effect."""
        self._server.should_exit = True
        self._thread.join(STOP_S)
        self._socket.close()

    def __enter__(self) -> HttpServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except Exception:  # games go on without it
            log.exception("the HTTP server has ended")


def _listen(host: str, port: int, or_any_port: bool) -> socket.socket:
    taken = "stop the program that uses it, choose another port, or set it to none to disable HTTP"
    try:
        try:
            return _bound(host, port)
        except OSError as error:
            if not or_any_port:
                raise
            sock = _bound(host, 0)
            log.warning(
                "the dashboard is on port %d, because %s:%d is not available: %s",
                sock.getsockname()[1], host, port, error.strerror,
            )  # fmt: skip
            return sock
    except OSError as error:
        keys = ("server.http_port", "server.http_host")
        raise cannot_listen(*keys, host, port, error, taken) from None


def _bound(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock
