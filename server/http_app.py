"""What is answered over HTTP: pages, numbers as JSON, health, and controls.

    GET  /  /game/...              the dashboard
    GET  /static/...               its files
    GET  /healthz  /readyz         200, or 503 with what is wrong
    GET  /api/state                the run and its newest numbers
    GET  /api/history?points=N     numbers over all of the run's time
    GET  /api/games  /api/games/ID who is connected

Handlers read the board alone (server.board), so that no request waits for the supervisor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.board import Board, dashboard

HISTORY_POINTS = 600
MOST_POINTS = 4096

HEADERS = {
    # Nothing from anywhere else, and nothing written into the page itself.
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def json_response(content: Any, status: int = 200, **headers: str) -> Response:
    """`content` as JSON; NaN and infinity become null."""
    return Response(
        msgspec.json.encode(content),
        status,
        {"cache-control": "no-store"} | {k.replace("_", "-"): v for k, v in headers.items()},
        "application/json",
    )


def refusal(status: int, text: str, **headers: str) -> Response:
    """An error as JSON."""
    return json_response({"error": text}, status, **headers)


def make_app(board: Board) -> ASGIApp:
    """The application for one server."""

    async def state(_: Request) -> Response:
        return json_response(board.state())

    async def history(request: Request) -> Response:
        text = request.query_params.get("points", str(HISTORY_POINTS))
        if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MOST_POINTS):
            return refusal(400, f"points: expected a whole number from 1 to {MOST_POINTS}")
        return json_response(board.past(int(text)))

    async def games(_: Request) -> Response:
        return json_response(board.games)

    async def game(request: Request) -> Response:
        session = request.path_params["session"]
        for each in board.games:
            if each["session"] == session:
                return json_response(each)
        return refusal(404, f"no game plays in session {session}; /api/games lists those that do")

    routes = [
        Route("/", _page),
        Route("/game/{rest:path}", _page),
        Mount("/static", StaticFiles(directory=dashboard())),
        Route("/healthz", _probe(lambda: board.problem)),
        Route("/readyz", _probe(lambda: board.unready)),
        Route("/api/state", state),
        Route("/api/history", history),
        Route("/api/games", games),
        Route("/api/games/{session:int}", game),
    ]
    handlers: dict[Any, Any] = {HTTPException: _http_error, Exception: _failed}
    return WithHeaders(Starlette(routes=routes, exception_handlers=handlers))


async def _page(_: Request) -> Response:
    return FileResponse(dashboard() / "index.html")


def _probe(problem: Callable[[], str]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        text = problem()
        return json_response({"ok": not text, "problem": text or None}, 503 if text else 200)

    return answer


async def _http_error(_: Request, error: HTTPException) -> Response:
    return refusal(error.status_code, error.detail)


async def _failed(_: Request, __: Exception) -> Response:
    return refusal(500, "the server failed to answer; its log says why")


class WithHeaders:
    """Adds `HEADERS` to every response that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(header for header in self._headers if header[0] not in there),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)
