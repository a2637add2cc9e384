"""The game in the browser: the client for JavaScript and its example, as this server's pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

import server

FILES = Path(server.__file__).parents[1] / "clients" / "javascript"

WHERE = "/clients/javascript"
GAME = f"{WHERE}/example/index.html"


class GameFiles(StaticFiles):
    """The client's files. Their pages may open WebSockets to this server's port, and load nothing
    from elsewhere."""

    def __init__(self, port: Callable[[], int | None], policy: str) -> None:
        """`port`: of WebSockets; `policy`: the Content-Security-Policy of all other pages."""
        super().__init__(directory=FILES, check_dir=False)
        self._port, self._policy = port, policy

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if (port := self._port()) is not None:
            # By whatever name the page is reached: it connects to its own.
            to = f"connect-src 'self' ws://*:{port} wss://*:{port}"
            response.headers["content-security-policy"] = f"{self._policy}; {to}"
        return response


def routes(port: Callable[[], int | None], policy: str) -> list[BaseRoute]:
    """The page at /catch, and the files behind it."""

    async def catch(_: Request) -> Response:
        return RedirectResponse(GAME)

    return [Route("/catch", catch), Mount(WHERE, GameFiles(port, policy))]
