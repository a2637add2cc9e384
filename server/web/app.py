"""The HTTP application: dashboard, numbers as JSON, health, metrics and controls.

    GET  /  /game/...  /compare    the dashboard
    GET  /static/...               its files
    GET  /catch                    a game in the browser (server.web.browser_game)
    GET  /healthz  /readyz         200, or 503 with the problem
    GET  /api/state                the run and its newest numbers
    GET  /api/history?points=N     numbers over the whole run
    GET  /api/games  /api/games/ID connected games
    GET  /api/errors               connections that ended in an error: which, whose, when
    GET  /api/runs  /api/compare   runs beside this one (server.web.runs_beside)
    GET  /metrics                  for Prometheus
    POST /api/control              a control (server.control.controller), with the token

Handlers read only the status (server.monitor.status), so no request waits for the supervisor. A
control goes to its mailbox and waits for the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.control.mailbox import Mailbox, parse
from server.monitor.prometheus import CONTENT_TYPE, exposition
from server.monitor.status import Status
from server.net.rate_limits import address_of
from server.web import browser_game
from server.web.auth import TokenAuth
from server.web.connections import HttpConnections
from server.web.names import KnownNamesOnly
from server.web.responses import closing_error, error_response, json_response, shown, whole_number
from server.web.runs_beside import RunsBeside

log = logging.getLogger("http")

DASHBOARD = Path(__file__).parent / "dashboard"

MAX_BODY_BYTES = 65_536

DRAINED_BYTES = 2**20
"""Of a body that is too long, read before the connection is closed."""

BODY_S = 10.0
"""Time limit for a body."""

ANSWER_S = 60.0
"""Time limit for a control: a checkpoint may go to a slow disk."""

HISTORY_POINTS = 600
MOST_POINTS = 4096

HEADERS = {
    # Only this origin, and no inline scripts or styles.
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class BodyTooLong(Exception):
    """A body has more than MAX_BODY_BYTES."""


async def body_of(request: Request) -> bytes:
    """The body. Errors: BodyTooLong, TimeoutError.

    Of a long body, DRAINED_BYTES are read and dropped: the client may not read before it has sent
    all, and closing a connection with unread data would discard the answer too."""
    data = bytearray()
    n = 0
    async with asyncio.timeout(BODY_S):
        async for part in request.stream():
            n += len(part)
            if n <= MAX_BODY_BYTES:
                data += part
            elif n > DRAINED_BYTES:
                break
    if n > MAX_BODY_BYTES:
        raise BodyTooLong
    return bytes(data)


def make_app(
    status: Callable[[], Status],
    mailbox: Mailbox,
    auth: TokenAuth,
    connections: HttpConnections,
    names: Iterable[str] = (),
) -> ASGIApp:
    """The application for one server. `status`: gets its newest snapshot. `names`: those that it
    answers to beside localhost and literal addresses (server.web.names)."""

    async def state(_: Request) -> Response:
        return json_response(status().state() | {"controls": auth.enabled})

    async def history(request: Request) -> Response:
        text = request.query_params.get("points", str(HISTORY_POINTS))
        points = whole_number(text)
        if points is None or not 1 <= points <= MOST_POINTS:
            return error_response(
                400,
                f"points: expected a whole number from 1 to {MOST_POINTS}, got {shown(text)}",
            )
        return json_response(status().history(points))

    async def games(_: Request) -> Response:
        return json_response(status().games)

    async def errors(_: Request) -> Response:
        return json_response(status().failures)

    async def game(request: Request) -> Response:
        text = request.path_params["session"]
        session = whole_number(text)
        for each in status().games:
            if each["session"] == session:
                return json_response(each)
        return error_response(
            404,
            f"expected the session of a connected game, got {shown(text)}; /api/games lists them",
        )

    async def metrics(_: Request) -> Response:
        return Response(exposition(status()), 200, {"cache-control": "no-store"}, CONTENT_TYPE)

    async def control(request: Request) -> Response:
        address = request.client.host if request.client else "unknown"
        denied = auth.check(request.headers.get("authorization"), address)
        if denied is not None:
            connections.say(
                address_of(address), "control from %s refused: %d", address, denied.status
            )
            headers = denied.headers | {"connection": "close"}  # its body is not read
            return json_response({"error": denied.text}, denied.status, headers)
        try:
            asked = parse(await body_of(request))
        except BodyTooLong:
            return closing_error(413, f"expected at most {MAX_BODY_BYTES} bytes, got more")
        except TimeoutError:
            return closing_error(408, f"expected the whole request within {BODY_S:g} s")
        except ValueError as error:
            return error_response(400, f'expected JSON such as {{"pause": true}}: {error}')
        log.info("control from %s", address)
        future = asyncio.wrap_future(mailbox.ask(asked, "http"))
        try:
            answer = await asyncio.wait_for(asyncio.shield(future), ANSWER_S)
        except TimeoutError:
            return error_response(
                504, f"no answer within {ANSWER_S:g} s; the action may still be carried out"
            )
        return json_response(answer, 400 if "error" in answer else 200)

    routes = [
        Route("/", _page),
        Route("/game/{rest:path}", _page),
        Route("/compare", _compare_page),
        Mount("/static", StaticFiles(directory=DASHBOARD)),
        Route("/healthz", _probe(lambda: (status().problem, status().degraded))),
        Route("/readyz", _probe(lambda: (status().unready, status().degraded))),
        Route("/api/state", state),
        Route("/api/history", history),
        Route("/api/games", games),
        Route("/api/errors", errors),
        Route("/api/games/{session}", game),
        Route("/metrics", metrics),
        Route("/api/control", control, methods=["POST"]),
        *RunsBeside(lambda: status().folder).routes,
        *browser_game.routes(lambda: status().websocket_port, HEADERS["content-security-policy"]),
    ]
    handlers: dict[Any, Any] = {HTTPException: _http_error, Exception: _failed}
    starlette = Starlette(routes=routes, exception_handlers=handlers)
    starlette.router.redirect_slashes = False  # to what the client says is our name
    return DefaultHeaders(KnownNamesOnly(connections.limited(starlette), names))


async def _page(_: Request) -> Response:
    return FileResponse(DASHBOARD / "index.html")


async def _compare_page(_: Request) -> Response:
    return FileResponse(DASHBOARD / "compare.html")


def _probe(look: Callable[[], tuple[str, str]]) -> Callable[[Request], Awaitable[Response]]:
    """`look`: what is wrong, and what is only degraded; each empty for nothing."""

    async def answer(_: Request) -> Response:
        text, degraded = look()
        body: dict[str, Any] = {"ok": not text, "problem": text or None}
        return json_response(
            body | ({"degraded": degraded} if degraded else {}), 503 if text else 200
        )

    return answer


async def _http_error(request: Request, error: HTTPException) -> Response:
    # The URL is not asked for its path: with a strange Host header it has none.
    got = f"{request.method} {shown(request.scope['path'])}"
    if error.status_code == 405:
        text = f"expected the method {(error.headers or {}).get('Allow', 'GET')}, got {got}"
    else:
        text = f"expected an address that docs/http.md lists, got {got}: {error.detail.lower()}"
    return json_response({"error": text}, error.status_code, dict(error.headers or {}))


async def _failed(_: Request, __: Exception) -> Response:
    return error_response(500, "internal error; see the server's log")


class DefaultHeaders:
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
