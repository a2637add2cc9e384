"""Accepting connections, each of which may have to shake hands (TLS) before it is one.

asyncio's own servers let any number of connections stand in their handshake, each for a minute, and
tell nobody of them. Here they are counted: for an address, and all together. And where the system
has no file descriptor or no memory for a connection, asyncio logs each try, and uvloop accepts no
more for ever; here connections wait, and the next try is in a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

from server.net.client_hello import client_hello
from server.net.rate_limits import (
    ADDRESSES,
    GrowingPauses,
    LogRateLimiter,
    TokenBucket,
    address_of,
)
from server.net.tls import RENEW_S, Certificate

log = logging.getLogger("tls")

HANDSHAKES = 512
"""Under way at a time. One more costs the address that has the most of them its oldest one."""

HANDSHAKES_PER_S = 50.0
HANDSHAKES_BURST = 300.0
"""What one address may begin: a handshake costs a millisecond, in which no game is answered."""

EVERY_S = 0.004
"""Between the beginnings of two handshakes, of whatever addresses."""

PAUSE_S = 1.0
"""After an accept that failed: there are no more file descriptors, most likely."""


class Listener:
    """Accepts on a socket until `close`. For one event loop."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[], asyncio.BaseProtocol],
        certificate: Certificate | None,
        *,
        handshake_s: float,
        handshakes: int = HANDSHAKES,
        failed: Callable[[str, str, str], None] = lambda _peer, _address, _text: None,
    ) -> None:
        """`certificate`: None for connections without TLS. `handshake_s`: how long a handshake may
        take; `handshakes`: as many at a time. `failed`: called for each that fails, with host:port,
        address, and what was wrong."""
        self._loop = asyncio.get_running_loop()
        self._sock, self._protocol, self._certificate = sock, protocol, certificate
        self._handshake_s, self._handshakes, self._failed = handshake_s, handshakes, failed
        self._under_way: OrderedDict[asyncio.Task[None], str] = OrderedDict()
        self._by_address: Counter[str] = Counter()
        self._not_begun: set[socket.socket] = set()
        """Connections whose task has done nothing yet."""
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._free_at = self._loop.time()
        """When the next handshake may begin."""
        self._quiet = LogRateLimiter(self._loop.time)
        self._pauses = GrowingPauses(self._loop.time)
        self._timer: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._accept)
        self._renew = self._loop.call_later(RENEW_S, self._look)

    def close(self) -> None:
        """Accept nobody any more, and give up the handshakes that are under way."""
        self._loop.remove_reader(self._sock.fileno())
        self._renew.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._under_way):
            task.cancel()
        self._sock.close()

    async def wait_closed(self) -> None:
        """Nothing is left to be waited for; uvicorn asks all of its servers."""

    def _look(self) -> None:
        if self._certificate is not None:
            self._certificate.renew()
        self._renew = self._loop.call_later(RENEW_S, self._look)

    def _accept(self) -> None:
        """Accept one: others are heard before the next."""
        try:
            connection, peer = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            if (left_out := self._pauses.due(str(error))) is not None:
                log.error(
                    "cannot accept connections: %s; they wait, and the next try is in %g s%s",
                    error, PAUSE_S, f" ({left_out} more since the last line)" if left_out else "",
                )  # fmt: skip
            self._loop.remove_reader(self._sock.fileno())
            self._timer = self._loop.call_later(PAUSE_S, self._again)
            return
        self._begin(connection, peer)

    def _again(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def _begin(self, connection: socket.socket, peer: tuple[str, int]) -> None:
        """Hand a connection over, or begin its handshake. Where too many are under way, the address
        with the most of them gives up its oldest one, which is silent most likely."""
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # it has gone already
            connection.close()
            return
        address = address_of(peer[0])
        if self._certificate is None:
            task = self._add(self._hand_over(connection, None), address)
        else:
            if len(self._under_way) >= self._handshakes:
                heaviest = self._by_address.most_common(1)[0][0]
                oldest = next(t for t, other in self._under_way.items() if other == heaviest)
                oldest.cancel()
                self._leave(oldest)
            work = self._shake_hands(connection, peer, address, self._certificate)
            task = self._add(work, address)
        self._not_begun.add(connection)
        task.add_done_callback(lambda _: self._close_if_not_begun(connection))

    def _close_if_not_begun(self, connection: socket.socket) -> None:
        """Its task may have been cancelled before it has done anything."""
        if connection in self._not_begun:
            self._not_begun.discard(connection)
            connection.close()

    def _may_shake_hands(self, address: str) -> bool:
        """Whether this address has not had too many handshakes; one is counted."""
        now = self._loop.time()
        bucket = self._buckets.pop(address, None)
        if bucket is None:
            bucket = TokenBucket(HANDSHAKES_PER_S, HANDSHAKES_BURST, now)
        self._buckets[address] = bucket
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        if bucket.take(0, now):
            return False
        bucket.take(1, now)
        return True

    def _add(self, work: Coroutine[Any, Any, None], address: str) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._under_way[task] = address
        self._by_address[address] += 1
        task.add_done_callback(lambda done: self._ended(done, address))
        return task

    async def _shake_hands(
        self,
        connection: socket.socket,
        peer: tuple[str, int],
        address: str,
        certificate: Certificate,
    ) -> None:
        self._not_begun.discard(connection)
        handed_over = False
        try:
            async with asyncio.timeout(self._handshake_s):
                await client_hello(self._loop, connection)
                if not self._may_shake_hands(address):
                    self._say(peer, address, "too many TLS handshakes at once; closed")
                    return
                await self._my_turn()
            handed_over = True
            await self._hand_over(connection, certificate)
        except (OSError, EOFError) as error:  # ssl.SSLError and TimeoutError are OSErrors
            text = f"expected a TLS handshake: {_reason(error)}"
            self._failed(f"{peer[0]}:{peer[1]}", address, text)
            self._say(peer, address, text)
        finally:
            if not handed_over:
                connection.close()

    async def _hand_over(self, connection: socket.socket, certificate: Certificate | None) -> None:
        """To the event loop, which closes it if that fails. Errors: OSError, EOFError."""
        self._not_begun.discard(connection)
        if certificate is None:
            with contextlib.suppress(OSError):  # it has gone already
                await self._loop.connect_accepted_socket(self._protocol, connection)
            return
        await self._loop.connect_accepted_socket(
            self._protocol,
            connection,
            ssl=certificate.context,
            ssl_handshake_timeout=self._handshake_s,
            ssl_shutdown_timeout=2.0,
        )

    async def _my_turn(self) -> None:
        """Handshakes begin at an even pace, however many could: games are answered between them."""
        now = self._loop.time()
        wait_s = self._free_at - now
        self._free_at = max(now, self._free_at) + EVERY_S
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def _leave(self, task: asyncio.Task[None]) -> None:
        """It is not counted any more. Again has no effect."""
        address = self._under_way.pop(task, None)
        if address is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    def _ended(self, task: asyncio.Task[None], address: str) -> None:
        self._leave(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection from %s failed", address, exc_info=error)

    def _say(self, peer: tuple[str, int], address: str, text: str) -> None:
        more = self._quiet.suffix(address)
        if more is not None:
            log.warning("%s:%d: %s%s", peer[0], peer[1], text, more)


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return "it did not come in time"
    return str(error) or type(error).__name__
