"""Which names HTTP answers to: the Host header, and the Origin of requests that pages send.

A page's script may read what its own origin answers. If the page's name is made to lead to this
machine (DNS rebinding), the browser of whoever visits it takes the server for that origin, wherever
the server listens: only the name in the Host header tells. So what is answered is names on a list,
and literal addresses: no name was made to lead there, and a page of such an origin is the server's.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from server.net.host_names import host_name, is_address, plain_name
from server.web.responses import error_response, shown


class KnownNamesOnly:
    """Refuses requests whose Host header is neither localhost, nor a literal address, nor on the
    list (421), and those of pages of other origins (403)."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        self._names = {"localhost", *(plain_name(name) for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self.refusal(scope["headers"]) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await error_response(*refusal)(scope, receive, send)

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, str] | None:
        """Status and text for a request with these headers; None where it may be answered."""
        found: dict[bytes, list[str]] = {b"host": [], b"origin": []}
        for name, value in headers:
            if name in found:
                found[name].append(value.decode("latin-1").strip())
        hosts, origins = found[b"host"], found[b"origin"]
        if len(hosts) != 1 or not self.answers_to(hosts[0]):
            return 421, (
                "expected the header Host to have a literal address, localhost, or a name of "
                f"server.http_names, got {_shown(hosts)}; add the name to server.http_names"
            )
        if any(not self._same(origin, hosts[0]) for origin in origins):
            return 403, (
                f"expected the page's own origin in the header Origin, got {_shown(origins)}; "
                "behind a proxy that changes Host, add its name to server.http_names"
            )
        return None

    def answers_to(self, host: str) -> bool:
        """Whether a Host header has a name that is answered to, with or without a port."""
        name = host_name(host)
        return name is not None and (name in self._names or is_address(name))

    def _same(self, origin: str, host: str) -> bool:
        """Whether a page of this origin is the server's own. An address is nobody's but its own
        here: pages of others have some too."""
        _, scheme, authority = origin.rpartition("://")
        if not scheme:
            return False
        name = host_name(authority)
        own = authority.lower() == host.lower()
        return own or (name in self._names and name != "localhost")


def _shown(values: list[str]) -> str:
    return ", ".join(shown(value) for value in values[:3]) or "none"
