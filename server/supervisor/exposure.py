"""Who can reach what listens: beyond loopback, only those who can say a token."""

from __future__ import annotations

import ipaddress
import socket

from config.load import ConfigError
from config.models import Config


def check(config: Config) -> list[str]:
    """Whether this configuration may listen where it wants to; `config` has its secrets. Returns
    what the operator should be reminded of.

    Errors: ConfigError for a port of games that is open beyond loopback to everybody, without the
    operator having said that this is meant.
    """
    server, tempest = config.server, config.tempest
    open_server = server.token is None and not is_loopback(server.host)
    open_tempest = tempest.port is not None and not is_loopback(tempest.host)
    if server.insecure:
        where = [server.host] * open_server + [tempest.host] * open_tempest
        return [f"anyone who reaches {host} can play: there is no token" for host in where]
    if open_server:
        raise ConfigError(
            f"server.host: {server.host} is reachable from other machines, and the server has no "
            "token: set server.token (UNDERSTUDY_SERVER__TOKEN) or server.token_file, listen on "
            "127.0.0.1, or pass --insecure to admit everyone. A run does not save tokens: "
            "--resume needs it again"
        )
    if open_tempest:
        raise ConfigError(
            f"tempest.host: {tempest.host} is reachable from other machines, and these clients "
            "cannot send a token. Listen on 127.0.0.1 behind a tunnel, or pass --insecure to "
            "admit everyone"
        )
    return []


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on this address or name. A name
    that means nothing is not: to listen on it fails anyway."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(
        ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_loopback for each in found
    )
