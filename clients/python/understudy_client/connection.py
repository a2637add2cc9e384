"""A blocking socket that sends one message and waits for the one that answers it."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from understudy_client.errors import Cancelled, ConnectionLost, ServerError
from understudy_client.tls import secured
from understudy_client.wire import Error, Inbox, ServerMessage, Settings

POLL_S = 0.2
"""How often `cancelled` is asked while waiting."""

CONNECT_S = 10.0
"""The longest wait for TCP itself, which cannot be cancelled: beyond it, trying again is better."""


class Connection:
    """One TCP connection. After an exception out of `exchange` it is of no further use.

    `settings` gathers what SETTINGS messages bring, whenever they come.
    """

    def __init__(
        self,
        address: tuple[str, int],
        timeout_s: float,
        cancelled: Callable[[], bool] | None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls`: how to encrypt; None for not at all. Errors: ConnectionLost, TlsError."""
        self._name = f"{address[0]}:{address[1]}"
        self._timeout_s = timeout_s
        self._cancelled = cancelled
        self.broken = False
        self.settings: dict[str, Any] = {}
        self._inbox = Inbox()
        self._tls = tls is not None
        self._heard = False
        """Something has come."""
        self.check(cancelled)
        self._socket: socket.socket
        try:
            self._socket = socket.create_connection(address, min(timeout_s, CONNECT_S))
            if tls is not None:
                self._socket = secured(self._socket, tls, address)
        except OSError as error:
            raise ConnectionLost(f"cannot connect to {self._name}: {_reason(error)}") from error
        # An answer is awaited for each frame: waiting to fill a packet would cost 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll_s = timeout_s if cancelled is None else min(POLL_S, timeout_s)
        self._socket.settimeout(self._poll_s)

    @staticmethod
    def check(cancelled: Callable[[], bool] | None) -> None:
        """Raise Cancelled where the caller wants to stop."""
        if cancelled is not None and cancelled():
            raise Cancelled("waiting for the server was cancelled")

    def exchange(self, message: bytes | bytearray) -> ServerMessage:
        """Send a message and return the next one that is not SETTINGS.

        Errors: ServerError for ERROR, ConnectionLost for a lost connection or a silent server,
        ProtocolViolation, Cancelled.
        """
        # Whatever goes wrong from here, question and answer may no longer belong together.
        self.broken = True
        try:
            self._send(message)
        except ConnectionLost as lost:
            # A server that refuses says why before it closes: that is the better message.
            try:
                while True:
                    self._receive()
            except ConnectionLost:
                raise lost from None
        answer = self._receive()
        self.broken = False
        return answer

    def close(self, last: bytes | bytearray | None) -> None:
        """Close, after a last message where one is given and nothing stands in its way."""
        try:
            if last is not None and not self.broken:
                self._socket.settimeout(1.0)
                self._socket.sendall(last)
        except OSError:
            pass  # it is over either way
        finally:
            self._socket.close()

    def _send(self, message: bytes | bytearray) -> None:
        sent = 0
        deadline = 0.0
        view: bytes | bytearray | memoryview = message
        while True:
            try:
                sent += self._socket.send(view)
            except TimeoutError:
                deadline = self._waited(deadline)
            except OSError as error:
                raise self._lost(_reason(error)) from error
            if sent == len(message):
                return
            view = memoryview(message)[sent:]

    def _receive(self) -> ServerMessage:
        inbox, recv_into = self._inbox, self._socket.recv_into
        deadline = 0.0
        while True:
            message = inbox.next()
            if message is not None:
                kind = type(message)
                if kind is Error:
                    assert isinstance(message, Error)
                    raise ServerError(message.code, message.message, message.retry)
                if kind is not Settings:
                    return message
                assert isinstance(message, Settings)
                self.settings.update(message.settings)
                continue
            try:
                count = recv_into(inbox.space())
            except TimeoutError:
                deadline = self._waited(deadline)
                continue
            except OSError as error:
                raise self._lost(_reason(error)) from error
            if count == 0:
                raise self._lost("the server closed the connection")
            inbox.filled(count)
            self._heard = True

    def _lost(self, reason: str) -> ConnectionLost:
        """The error for a connection that the other side has ended."""
        if not (self._heard or self._tls):
            reason += (
                ", without a word: if it speaks TLS, so must this client (tls=True; --tls where it "
                "is a command)"
            )
        return ConnectionLost(f"{self._name}: {reason}")

    def _waited(self, deadline: float) -> float:
        """One poll went by in vain: the time at which to stop waiting, unless it has come."""
        self.check(self._cancelled)
        now = time.monotonic()
        if deadline == 0.0:
            deadline = now + self._timeout_s - self._poll_s
        if now >= deadline:
            raise ConnectionLost(f"{self._name}: no answer within {self._timeout_s:g} s")
        return deadline


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
