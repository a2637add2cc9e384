"""The connections of HTTP: which may stay, which make room for others, and how many requests are
answered at a time.

A connection costs a file descriptor of the supervisor, a request costs work. Who is silent, sends
slowly or does not read makes room for who comes later, of the address with the most connections
first. Whether the server is healthy is answered whatever else is under way.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import h11
import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from server.net import open_files
from server.net.listener import HANDSHAKES
from server.net.rate_limits import LogRateLimiter, address_of
from server.web.responses import closing_error, json_response

log = logging.getLogger("http")

OPEN, OPEN_PER_ADDRESS = 512, 128
"""Open connections, in all and from one address. One more, and another one is closed for it."""

ALWAYS = 8
"""As many may be open even where the last open files are in use: it is not HTTP that uses them."""

REQUESTS = 64
"""Requests that are answered at a time; more get 503."""

PROBES = ("/healthz", "/readyz")
"""Answered beside those: who asks restarts a server that does not answer."""

STALLED_S = 20.0
"""A connection without a completed answer for this long is cut: its client sends slowly, or does
not read."""

REASON = 200
"""Letters of what is wrong with something that is no HTTP: some of it is repeated there."""

UNANSWERED_BYTES = 2 * 2**20
"""What a connection may send before its next answer is complete, or behind one: more than a request
and the part of its body that is read."""


HEADER_BYTES = 16_384
"""Of the first line of a request and of its headers, each."""

_TOO_LONG = {
    414: f"expected an address of at most {HEADER_BYTES} bytes, got more",
    431: f"expected headers of at most {HEADER_BYTES} bytes, got more",
}


@dataclass(frozen=True)
class Room:
    """What there are open files for."""

    connections: int = OPEN
    requests: int = REQUESTS
    """That are answered at a time: a page is a file too."""
    handshakes: int = HANDSHAKES


ENOUGH = Room()
"""Where open files are no limit."""


class _Does(IntEnum):
    """What a connection does; those with the lowest number make room first."""

    WAIT = 0
    """It has asked nothing, or not yet all of it."""
    NOT_READ = 1
    """Its answer is there and it does not read it."""
    WORK = 2
    """It is being answered."""


class HttpConnections:
    """All connections of one HTTP server. For one thread."""

    def __init__(self, room: Room) -> None:
        self.quiet = LogRateLimiter(time.monotonic)
        """Of the lines about those who connect."""
        self._room = room
        self._open: dict[HttpConnection, None] = {}
        """The oldest first."""
        self._by_address: Counter[str] = Counter()
        self._under_way = 0

    def came(self, one: HttpConnection) -> None:
        """A connection was accepted. Where there are too many, one of them is closed."""
        self._open[one] = None
        self._by_address[one.address] += 1
        if self._by_address[one.address] > OPEN_PER_ADDRESS:
            same = [each for each in self._open if each.address == one.address]
            self._make_room(same, one)
        elif len(self._open) > self._room.connections or (
            len(self._open) > ALWAYS and open_files.few_left(one.descriptor)
        ):
            self._make_room(list(self._open), one)

    def gone(self, one: HttpConnection) -> None:
        """It is no more. Again has no effect."""
        if one in self._open:
            del self._open[one]
            self._by_address[one.address] -= 1
            if not self._by_address[one.address]:
                del self._by_address[one.address]

    def limited(self, app: ASGIApp) -> ASGIApp:
        """The application, which is asked for so many answers at a time."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if (status := _too_long(scope)) is not None:
                await closing_error(status, _TOO_LONG[status])(scope, receive, send)
                return
            if scope["path"] in PROBES:
                await app(scope, receive, send)
                return
            if self._under_way >= self._room.requests and not self._drop_reader():
                text = f"{self._room.requests} requests are being answered; ask again in a second"
                response = json_response({"error": text}, 503, {"retry-after": "1"})
                await response(scope, receive, send)
                return
            self._under_way += 1
            try:
                await app(scope, receive, send)
            finally:
                self._under_way -= 1

        return answer

    def say(self, address: str, text: str, *args: object) -> None:
        """A line in the log about somebody of this address, unless there are too many."""
        if (more := self.quiet.suffix(address)) is not None:
            log.warning(text + "%s", *args, more)

    def _make_room(self, among: list[HttpConnection], newcomer: HttpConnection) -> None:
        """Close the one that needs it least: the newcomer only if all others are being answered."""
        others = [each for each in among if each is not newcomer and each.does != _Does.WORK]
        self._close(min(others, key=self._order, default=newcomer))

    def _drop_reader(self) -> bool:
        """Close a connection that does not read its answer; whether there was one."""
        there = [each for each in self._open if each.does == _Does.NOT_READ]
        if there:
            self._close(min(there, key=self._order))
        return bool(there)

    def _order(self, one: HttpConnection) -> tuple[int, int, float]:
        return one.does, -self._by_address[one.address], one.since

    def _close(self, one: HttpConnection) -> None:
        self.say(
            one.address,
            "%s: closed, since too many HTTP connections are open and this one waits (%d, %d of "
            "its address)",
            one.peer, len(self._open), self._by_address[one.address],
        )  # fmt: skip
        self.gone(one)
        one.transport.abort()


class HttpConnection(H11Protocol):
    """uvicorn's HTTP connection, counted and with a limit of how long and how much it may go on
    without a completed answer; what is no HTTP is answered in JSON."""

    def __init__(self, connections: HttpConnections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._all = connections
        self.address = ""
        """Whom it counts for (server.net.rate_limits)."""
        self.descriptor = 0
        """Of its socket."""
        self.since = self.loop.time()
        """When it was accepted, or its last answer was complete."""
        self._completed = self._seen = self._unanswered = 0

    @property
    def peer(self) -> str:
        """Who is at the other end: host:port."""
        return f"{self.client[0]}:{self.client[1]}" if self.client else "somebody who has gone"

    @property
    def does(self) -> _Does:
        """What it does now."""
        if self.cycle is None or self.cycle.response_complete:
            return _Does.WAIT
        return _Does.NOT_READ if self.flow.write_paused else _Does.WORK

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = address_of(self.client[0]) if self.client else ""
        self.descriptor = transport.get_extra_info("socket").fileno()
        self._watch = self.loop.call_later(STALLED_S, self._check)
        self._all.came(self)

    def data_received(self, data: bytes) -> None:
        self._unanswered += len(data)
        if self._unanswered > UNANSWERED_BYTES:
            self.transport.abort()
            return
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._completed += 1
        self._unanswered = 0
        self.since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        self._all.gone(self)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Called while h11's error is handled: what came is no HTTP, or too long."""
        error = sys.exception()
        reason = str(error or msg)[:REASON]
        status, text = self._refusal(error, reason)
        self._all.say(self.address, "%s: HTTP refused: %d, %s", self.peer, status, reason)
        if self.cycle is not None and not self.cycle.response_complete:
            # The end of its request is what is wrong: whoever answers it has nobody to answer.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE) or (
            self.cycle is not None and self.cycle.response_started
            and not self.cycle.response_complete
        ):  # fmt: skip
            self.transport.abort()
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"connection", b"close"),
        ]
        body = msgspec.json.encode({"error": text})
        for event in (
            h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status]),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _refusal(self, error: BaseException | None, reason: str) -> tuple[int, str]:
        """Status and text for something that is no HTTP."""
        hint = getattr(error, "error_status_hint", 400)
        if hint == 431:
            hint = 431 if b"\n" in self.conn.trailing_data[0].lstrip() else 414
            return hint, _TOO_LONG[hint]
        status = hint if STATUS_PHRASES.get(hint) else 400
        return status, f"expected a request of HTTP/1.1, got something else: {reason}"

    def _check(self) -> None:
        if self._completed == self._seen:
            self.transport.abort()
            return
        self._seen = self._completed
        self._watch = self.loop.call_later(STALLED_S, self._check)


def _too_long(scope: Scope) -> int | None:
    """The status for a request that came at once, before anybody could see how long it is."""
    if len(scope["raw_path"]) + len(scope["query_string"]) > HEADER_BYTES:
        return 414
    if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
        return 431
    return None
