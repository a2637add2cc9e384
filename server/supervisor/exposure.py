"""Who can reach what listens: beyond loopback, only those who can say a token.

A run saves neither tokens nor the consent to do without: each start says them anew.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection

from config.fields import all_settings
from config.load import ConfigError
from config.models import Config

SHORTEST = 16
"""Characters of a token that others than this machine can guess at."""

_MAKE_ONE = "make one with `openssl rand -hex 32`"


def check(config: Config, told: Collection[str] = ()) -> list[str]:
    """Whether this configuration may listen where it wants to; `config` has its secrets. `told`:
    keys of settings that are not saved and that the run's last start was given. Returns what the
    operator should be reminded of.

    Errors: ConfigError for a port of games that is open beyond loopback to everybody, without the
    operator having said for this start that it is meant, and for a token that could be guessed.
    """
    server, tempest = config.server, config.tempest
    open_server = not is_loopback(server.host)
    open_tempest = tempest.port is not None and not is_loopback(tempest.host)
    open_http = server.http_port is not None and not is_loopback(server.http_host)
    if open_server and server.token is None and not server.insecure:
        had = ", and this run had one until now" if "server.token" in told else ""
        again = "give it again" if had else "set one"
        raise ConfigError(
            f"server.host: {server.host} is reachable from other machines, and the server has no "
            f"token{had}: {again} with server.token (UNDERSTUDY_SERVER__TOKEN) or "
            "server.token_file, listen on 127.0.0.1, or pass --insecure to admit everyone. A run "
            "saves neither a token nor --insecure: --resume needs it again"
        )
    if open_tempest and not tempest.insecure:
        raise ConfigError(
            f"tempest.host: {tempest.host} is reachable from other machines, and these clients "
            "cannot send a token. Listen on 127.0.0.1 behind a tunnel, or pass --tempest.insecure "
            "to admit everyone there. A run does not save it: --resume needs it again"
        )
    for key, token, host, reachable in (
        ("server.token", server.token, server.host, open_server),
        ("server.control_token", server.control_token, server.http_host, open_http),
    ):
        if reachable and token is not None and len(token.get_secret_value()) < SHORTEST:
            raise ConfigError(
                f"{key}: expected at least {SHORTEST} characters, because {host} is reachable from "
                f"other machines, got {len(token.get_secret_value())}; {_MAKE_ONE}"
            )
    said = []
    if open_server and server.token is None:
        said.append(f"anyone who reaches {server.host} can play: there is no token")
    if open_tempest:
        said.append(
            f"anyone who reaches tempest.port on {tempest.host} can play: it asks for no token"
        )
    return said + _missing(config, told, open_server=open_server)


def _missing(config: Config, told: Collection[str], *, open_server: bool) -> list[str]:
    """What the run had until now and this start was not told."""
    server, said = config.server, []
    if "server.token" in told and server.token is None and not open_server:
        said.append(
            "the run had a token until now, and this start has none: whoever reaches "
            f"{server.host} can play, through a proxy or a tunnel too; {_again('server.token')}"
        )
    if "server.control_token" in told and server.control_token is None:
        said.append(
            "the run had a control token until now, and this start has none: there are no controls "
            f"over HTTP; {_again('server.control_token')}"
        )
    default = all_settings()["server.http_host"].default
    if "server.http_host" in told and server.http_host == default:
        said.append(
            f"the dashboard of this run was not on {default} alone until now; a run does not save "
            "that: give server.http_host again, if others are to see it"
        )
    return said


def _again(key: str) -> str:
    variable = all_settings()[key].variable
    return f"a run does not save it: give it again with {key} ({variable}) or {key}_file"


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
