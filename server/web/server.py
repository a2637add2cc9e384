"""HTTP in a thread of its own: a request that is slow or wrong delays nobody else."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from config.load import ConfigError, InUse
from server.control.mailbox import Mailbox
from server.monitor.status import Status
from server.net.tls import Certificate
from server.net.tls_server import TlsServer
from server.web.app import is_local, make_app
from server.web.auth import Guard

log = logging.getLogger("http")

STALLED_S = 20.0
"""A connection on which no answer was completed for so long is cut: one that sends its request
slowly, or does not read."""

CONNECTIONS = 64
"""At a time; more are answered with 503."""

OPEN, OPEN_PER_ADDRESS = 512, 128
"""Connections that may be open, of all and of one address; more are cut. Each takes a file
descriptor of the supervisor's."""

HEADER_BYTES = 16_384

HANDSHAKE_S = 10.0
"""How long a TLS handshake may take."""

STOP_S = 5.0


class Protocol(H11Protocol):
    """uvicorn's, with a limit on how long a connection may take: it has none of its own."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        ours = [each for each in self.connections if isinstance(each, Protocol) and each.client]
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


class _Server(uvicorn.Server):
    """uvicorn's, with TLS connections that are counted from before their handshake on."""

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
        return Protocol(self.config, self.server_state, self.lifespan.state)


class HttpServer:
    """Serves until `stop`. Use it as a context manager."""

    def __init__(
        self,
        host: str,
        port: int,
        status: Callable[[], Status],
        mailbox: Mailbox,
        *,
        control_token: str | None = None,
        certificate: Certificate | None = None,
        or_any_port: bool = False,
    ) -> None:
        """`control_token`: without one there are no controls. `certificate`: with one, HTTPS is
        spoken and nothing else. `or_any_port`: where the port is taken, another one is. Errors:
        ConfigError where there is none to be had."""
        self._socket = _listen(host, port, or_any_port)
        self.port: int = self._socket.getsockname()[1]
        self.host = host
        config = uvicorn.Config(
            make_app(
                status,
                mailbox,
                Guard(control_token),
                only_local_names=is_local(_name_of(self._socket)),
            ),
            loop="asyncio",
            http=Protocol,
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
        self._server = _Server(config)
        self._server.certificate = certificate
        self._scheme = "https" if certificate else "http"
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def stop(self) -> None:
        """Answer nobody any more. Again has no effect."""
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
            log.exception("HTTP has ended")


def _listen(host: str, port: int, or_any_port: bool) -> socket.socket:
    try:
        return _bound(host, port)
    except OSError as error:
        if or_any_port:
            sock = _bound(host, 0)
            log.warning(
                "the dashboard is on port %d: %s:%d cannot be had: %s",
                sock.getsockname()[1], host, port, error.strerror,
            )  # fmt: skip
            return sock
        kind = InUse if error.errno == errno.EADDRINUSE else ConfigError
        raise kind(
            f"server.http_port: cannot listen on {host}:{port}: {error.strerror}; stop what uses "
            "it, choose another port, or none for no HTTP"
        ) from None


def _name_of(sock: socket.socket) -> str:
    """The address that it listens on, as a Host header has it."""
    host: str = sock.getsockname()[0]
    return f"[{host}]" if ":" in host else host


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
