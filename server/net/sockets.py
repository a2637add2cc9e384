"""The sockets that games connect to."""

from __future__ import annotations

import errno
import socket

from config.load import ConfigError, InUse
from config.models import Config
from config.passing import TryAgain, is_passing

BACKLOG = 1024
"""Connections that may wait to be accepted."""

Sockets = tuple[socket.socket, socket.socket | None]
"""Of a gateway: where games connect, and where older clients for Tempest do."""


def listen(config: Config) -> list[Sockets]:
    """Listening sockets for each gateway. Errors: ConfigError."""
    server, tempest = config.server, config.tempest
    sockets = _listening("server", server.host, server.port, server.gateways)
    if tempest.port is None:
        return [(sock, None) for sock in sockets]
    try:
        older = _listening("tempest", tempest.host, tempest.port, server.gateways)
    except ConfigError:
        for sock in sockets:
            sock.close()
        raise
    return list(zip(sockets, older, strict=True))


def _listening(group: str, host: str, port: int, gateways: int) -> list[socket.socket]:
    """A listening socket for each gateway, all on one port. Errors: ConfigError that names the
    settings' group."""
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
        sockets = []
        for _ in range(gateways):
            sock = socket.socket(family)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
            sock.listen(BACKLOG)
            sockets.append(sock)
    except OSError as error:
        raise cannot_listen(f"{group}.port", f"{group}.host", host, port, error) from None
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
