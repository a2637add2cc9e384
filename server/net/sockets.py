"""The sockets that games connect to."""

from __future__ import annotations

import errno
import socket
from typing import NamedTuple

from config.load import ConfigError, InUse
from config.models import Config
from config.passing import TryAgain, is_passing

BACKLOG = 1024
"""Connections that may wait to be accepted."""


class GatewaySockets(NamedTuple):
    """Where a gateway listens; None where it does not."""

    games: socket.socket
    tempest: socket.socket | None
    """For older clients for Tempest."""
    websocket: socket.socket | None
    """For games in browsers."""

    @property
    def ports(self) -> tuple[int, int | None, int | None]:
        """The port of each."""
        older, browsers = (
            None if sock is None else sock.getsockname()[1]
            for sock in (self.tempest, self.websocket)
        )
        return self.games.getsockname()[1], older, browsers

    def close(self) -> None:
        """Listen no more."""
        for sock in self:
            if sock is not None:
                sock.close()


def listen(config: Config) -> list[GatewaySockets]:
    """Listening sockets for each gateway. Errors: ConfigError."""
    server, tempest = config.server, config.tempest
    n = server.gateways
    none: list[socket.socket | None] = [None] * n
    games = _listening("server.port", "server.host", server.host, server.port, n)
    older, browsers = none, none
    try:
        if tempest.port is not None:
            older = [*_listening("tempest.port", "tempest.host", tempest.host, tempest.port, n)]
        if server.websocket_port is not None:
            key, port = "server.websocket_port", server.websocket_port
            browsers = [*_listening(key, "server.host", server.host, port, n)]
    except ConfigError:
        for sock in (*games, *older):
            if sock is not None:
                sock.close()
        raise
    return [GatewaySockets(*each) for each in zip(games, older, browsers, strict=True)]


def _listening(key: str, of_host: str, host: str, port: int, gateways: int) -> list[socket.socket]:
    """A listening socket for each gateway, all on one port. `key`, `of_host`: the settings that say
    port and host. Errors: ConfigError that names them."""
    sockets: list[socket.socket] = []
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # Without SO_REUSEPORT first: another server on this port must be noticed.
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            port = probe.getsockname()[1]
            if gateways == 1:
                # From here on connections queue until the gateway has started.
                probe.listen(BACKLOG)
                return [probe.dup()]
        for _ in range(gateways):
            sock = socket.socket(family)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
            sock.listen(BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise cannot_listen(key, of_host, host, port, error) from None
    return sockets


def cannot_listen(
    setting: str,
    of_host: str,
    host: str,
    port: int,
    error: OSError,
    taken: str = "stop what uses it, or choose another port",
) -> ConfigError:
    """The error for an address that nothing can listen on. `setting`, `of_host`: the keys of port
    and host. `taken`: what to do where another program has the port."""
    text = f"{setting}: cannot listen on {host}:{port}: {error.strerror}"
    if error.errno == errno.EADDRINUSE:
        return InUse(f"{text}; {taken}")
    if error.errno == errno.EADDRNOTAVAIL:
        return TryAgain(f"{text}; bring up the interface that has the address, or set {of_host}")
    if isinstance(error, socket.gaierror):
        found = f"{text}; correct the name in {of_host}, or wait for the name server"
        return (TryAgain if is_passing(error) else ConfigError)(found)
    return (TryAgain if is_passing(error) else ConfigError)(
        f"{text}; choose a port and an address that this user may have"
    )
