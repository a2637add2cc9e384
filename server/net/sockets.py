"""The sockets that games connect to."""

from __future__ import annotations

import errno
import socket

from config.load import ConfigError, InUse
from config.models import Config

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
        kind = InUse if error.errno == errno.EADDRINUSE else ConfigError
        raise kind(
            f"{group}.port: cannot listen on {host}:{port}: {error.strerror}; stop what uses it, "
            "or choose another port"
        ) from None
    return sockets
