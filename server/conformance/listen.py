"""`understudy conformance --listen`: `ClientCheck`, a server that checks clients.

It does to a client all that servers may do, in a series of *acts* (`acts`). Connections are served
one at a time; the series goes on from one to the next, so that a client that comes back, or is
started again, meets the act that is next.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from protocol.errors import RemoteError
from server.conformance.answers import plain
from server.conformance.client_connection import ClientConnection, ClientGone
from server.conformance.report import RuleResult
from server.conformance.rules import Ledger
from server.conformance.series import ActSeries

if TYPE_CHECKING:
    from server.conformance.websocket import FramedWebSocket

MAX_FAILURES = 10
"""Connections that end because a rule is broken. Behind these there is nothing new to learn."""
FINAL_S = 3.0
"""How long a client that was refused for good is watched."""


class ClientCheck:
    """Serves clients until every act was played, nobody comes any more, or it is stopped."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        frames: int,
        timeout_s: float,
        show: Callable[[str], None],
        websocket: bool = False,
    ) -> None:
        """Listen.

        frames: that an act lasts. timeout_s: how long to wait for a client, and for each message.
        show: takes a line of progress. websocket: clients open WebSockets. Errors: OSError.
        """
        self.connections = 0
        """How often a client came."""
        self._timeout_s = timeout_s
        self._show = show
        self._websocket = websocket
        self._ledger = Ledger()
        self._series = ActSeries(self._ledger, frames, show)
        self._failures = 0
        self._listener = socket.create_server(address)
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> list[RuleResult]:
        """Play the series; what was found. A KeyboardInterrupt ends it early."""
        try:
            while (
                not self._series.over
                and self._failures < MAX_FAILURES
                and (sock := self._accept(self._timeout_s)) is not None
            ):
                with sock:
                    self._serve(sock)
        except KeyboardInterrupt:
            self._show("stopped")
        finally:
            self._listener.close()
        self._series.nobody_came(self._timeout_s)
        return self._ledger.results()

    def _accept(self, timeout_s: float) -> socket.socket | FramedWebSocket | None:
        """The next client; None where none comes in time."""
        if not self._series.returning:
            self._show(f"waiting for a client; next: {self._series.act}")
        self._listener.settimeout(timeout_s)
        try:
            sock, _ = self._listener.accept()
        except TimeoutError:
            return None
        self._series.connected(time.monotonic())
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        if not self._websocket:
            return sock
        # Here: whoever checks no WebSocket does not need the library.
        from server.conformance.websocket import FramedWebSocket

        sock.settimeout(self._timeout_s)
        try:
            return FramedWebSocket.of_client(sock)
        except OSError as problem:
            sock.close()
            self._broken("hello_first", f"connection {self.connections}: {problem}")
            return self._accept(timeout_s)

    def _serve(self, sock: socket.socket | FramedWebSocket) -> None:
        series = self._series
        client = ClientConnection(
            sock, series, session=2**40 + self.connections, timeout_s=self._timeout_s
        )
        try:
            client.play()
        except RemoteError as error:
            across = error.code == "seq_out_of_order" and client.behind_an_end
            rule = "seq-across-episodes" if across else error.code
            where = f"connection {self.connections}, during {series.act!r}"
            self._broken(rule, f"{where}: {error.message}")
            client.send_quietly(plain([15, error.code, error.message, False]))
            client.drain()
        except ClientGone as reason:
            rule = client.blame()
            self._broken(rule, f"connection {self.connections}: {reason}")
            if rule == series.act:  # once is enough
                series.next_act()
        if series.awaits_nobody:
            self._watch()

    def _broken(self, rule: str, detail: str) -> None:
        self._ledger.breach(rule, detail)
        self._failures += 1
        self._show(f"broken: {rule}: {detail}")

    def _watch(self) -> None:
        """The client was told not to come back: see that it does not."""
        self._series.refused_for_good()
        sock = self._accept(FINAL_S)
        if sock is not None:
            sock.close()
        self._series.stayed_away(sock is None)
