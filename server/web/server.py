"""HTTP in a thread of its own: a request that is slow or wrong delays nobody else."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from config.load import ConfigError, InUse, Loaded
from server.control.mailbox import Mailbox
from server.monitor.status import Status
from server.net.tls import Certificate
from server.net.tls_server import TlsServer
from server.web.app import make_app
from server.web.auth import TokenAuth

log = logging.getLogger("http")

STALLED_S = 20.0
"""A connection without a completed answer for this long is cut: its client sends slowly, or does
not read."""

CONNECTIONS = 64
"""Requests at a time; more are answered with 503."""

OPEN, OPEN_PER_ADDRESS = 512, 128
"""Open connections, in all and from one address; more are cut. Each takes a file descriptor of the
supervisor."""

HEADER_BYTES = 16_384

HANDSHAKE_S = 10.0
"""Time limit for a TLS handshake."""

STOP_S = 5.0


def any_http_port(loaded: Loaded) -> bool:
    """Whether HTTP may be on another port than the one in the settings: nobody chose it for this
    start."""
    return loaded.origins["server.http_port"].startswith(("default", "preset ", "run "))


class LimitedProtocol(H11Protocol):
    """uvicorn's HTTP connection with limits that uvicorn does not have: how many are open, and how
    long one may go without a completed answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        ours = [
            each for each in self.connections if isinstance(each, LimitedProtocol) and each.client
        ]
        same = sum(each.client[0] == (self.client or ("",))[0] for each in ours if each.client)
        if len(self.connections) > OPEN or same > OPEN_PER_ADDRESS:
            transport.abort()
        self._completed = self._seen = 0
        self._watch = self.loop.call_later(STALLED_S, self._check)

    def on_response_complete(self) -> None:
        self._completed += 1
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        super().connection_lost(exc)

    def _check(self) -> None:
        if self._completed == self._seen:
            self.transport.abort()
            return
        self._seen = self._completed
        self._watch = self.loop.call_later(STALLED_S, self._check)


class UvicornServer(uvicorn.Server):
    """uvicorn's server, with TLS connections that are counted before their handshake."""

    certificate: Certificate | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.certificate is None:
            await super().startup(sockets)
            return
        await super().startup([])
        for sock in sockets or []:
            listener: Any = TlsServer(
                sock, self._protocol, self.certificate, handshake_s=HANDSHAKE_S
            )
            self.servers.append(listener)

    def _protocol(self) -> asyncio.Protocol:
        return LimitedProtocol(self.config, self.server_state, self.lifespan.state)


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
    ) -> None:
        """`status`: gets the newest snapshot. `names`: those that it answers to beside localhost
        and literal addresses. `control_token`: None disables the controls. `certificate`: serve
        HTTPS only. `or_any_port`: if the port is in use, take another one.
        Errors: ConfigError if it cannot listen."""
        self._socket = _listen(host, port, or_any_port)
        self.port: int = self._socket.getsockname()[1]
        self.host = host
        config = uvicorn.Config(
            make_app(status, mailbox, TokenAuth(control_token), names),
            loop="asyncio",
            http=LimitedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            h11_max_incomplete_event_size=HEADER_BYTES,
            timeout_graceful_shutdown=1,
            proxy_headers=False,
        )
        self._server = UvicornServer(config)
        self._server.certificate = certificate
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
    try:
        return _bound(host, port)
    except OSError as error:
        if or_any_port:
            sock = _bound(host, 0)
            log.warning(
                "the dashboard is on port %d, because %s:%d is not available: %s",
                sock.getsockname()[1], host, port, error.strerror,
            )  # fmt: skip
            return sock
        kind = InUse if error.errno == errno.EADDRINUSE else ConfigError
        raise kind(
            f"server.http_port: cannot listen on {host}:{port}: {error.strerror}; stop the program "
            "that uses it, choose another port, or set it to none to disable HTTP"
        ) from None


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
