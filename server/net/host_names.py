"""Names of hosts in the headers Host and Origin of HTTP, and which pages may open a WebSocket.

A browser lets a page of any origin open a WebSocket to any server, and the server must say no: the
header Origin tells it whose page asks. If a page's name is made to lead to this machine (DNS
rebinding), Host and Origin agree; so names count only where they are known to be the server's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:/?#@\[\]]+)(?::[0-9]{1,5})?")
"""A host, in brackets where it is an address of IPv6, and perhaps a port."""

_SHOWN = 100
"""Letters of what came that an error repeats."""


def host_name(authority: str) -> str | None:
    """The name or address in it, without its port; None where it is none."""
    found = _AUTHORITY.fullmatch(authority)
    return None if found is None else plain_name(found[1])


def plain_name(name: str) -> str:
    """A host's name as it is compared: in lower case, without brackets and the dot at the end."""
    return name.strip("[]").lower().removesuffix(".")


def is_address(name: str) -> bool:
    """Whether a host is written as an address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class PageOrigins:
    """Which pages may open a WebSocket: those of the server's own host, whatever their port, and
    those of the origins on a list. A program that is no browser says no origin, and may."""

    def __init__(self, listed: Iterable[str], names: Iterable[str]) -> None:
        """`listed`: origins such as https://example.org. `names`: those of the server, beside
        localhost and literal addresses."""
        self._listed = {origin.lower() for origin in listed}
        self._names = {"localhost", *(plain_name(name) for name in names)}

    def refusal(self, hosts: Sequence[str], origins: Sequence[str]) -> str | None:
        """Why a request with these headers Host and Origin is refused; None where it may go on."""
        if not origins or (len(origins) == 1 and origins[0].lower() in self._listed):
            return None
        own = host_name(hosts[0]) if len(hosts) == 1 else None
        known = own is not None and (own in self._names or is_address(own))
        page = host_name(origins[0].rpartition("://")[2]) if len(origins) == 1 else None
        if known and page is not None and (page == own or page in self._names - {"localhost"}):
            return None
        return (
            f"expected a page of this server's own host ({_shown(hosts)}), or one of the origins "
            f"in server.websocket_origins, got a page of {_shown(origins)}; add its origin to "
            "server.websocket_origins, or the server's name to server.http_names"
        )


def _shown(values: Sequence[str]) -> str:
    return ", ".join(repr(value[:_SHOWN]) for value in values[:3]) or "none"
