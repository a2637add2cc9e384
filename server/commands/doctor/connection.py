"""The doctor's connection to a server: what can go wrong on it, and what to do about that."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Any

from protocol.messages import ERROR, SETTINGS
from server.commands.doctor.report import StepFailed
from server.net.plain_messages import Unreadable, receive_message
from understudy_client.errors import TlsError
from understudy_client.tls import secured

MAX_BYTES = 2**20
"""Of a message: an answer to one game is far shorter."""

PORT_HINT = "is this the port of an understudy server? The server prints it when it starts"

_KNOWN = {b"HTTP": "HTTP (a dashboard?)", b"SSH-": "SSH"}
"""First bytes of other protocols."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server, and what there is to reach it with."""

    host: str
    port: int
    token: str | None
    tls: ssl.SSLContext | None
    timeout_s: float


class Refusal(Exception):
    """The server sent ERROR."""

    def __init__(self, code: str, message: str, about: dict[str, Any] | None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.about = code, message, about


class NoAnswer(StepFailed):
    """Nothing answers, or nothing that an understudy server would send."""


class ServerConnection:
    """A connection to the target that sends and receives messages as plain values."""

    def __init__(self, target: Target) -> None:
        """Nothing is opened yet: `open_tcp`, then `encrypt`."""
        self._target = target
        self._where = f"{target.host}:{target.port}"
        self._socket: socket.socket | None = None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def open_tcp(self) -> None:
        """Connect, without TLS so far. Errors: StepFailed."""
        self.close()
        self._socket = self._connected()

    def _connected(self) -> socket.socket:
        target = self._target
        try:
            plain = socket.create_connection((target.host, target.port), target.timeout_s)
        except ConnectionRefusedError:
            raise StepFailed(
                f"{self._where} refuses the connection: nothing listens there",
                "start the server; compare the port with the one that it prints; with server.host "
                "127.0.0.1 only its own machine can reach it",
            ) from None
        except TimeoutError:
            raise StepFailed(
                f"{self._where} did not answer within {target.timeout_s:g} s",
                "check the address, and allow TCP to this port in the firewalls in between",
            ) from None
        except OSError as error:
            raise StepFailed(
                f"{self._where} cannot be reached: {reason_of(error)}",
                "check the address, and the network of this machine",
            ) from None
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plain

    def encrypt(self) -> None:
        """Add TLS, where the target has it. Errors: StepFailed."""
        plain, context = self._socket, self._target.tls
        assert plain is not None
        if context is None:
            return
        address = (self._target.host, self._target.port)
        try:
            self._socket = secured(plain, context, address)
        except TlsError as error:
            cause = error.__cause__
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise StepFailed(
                    f"the certificate is not trusted: {cause.verify_message}",
                    _certificate_cure(cause),
                ) from None
            raise StepFailed(
                f"the server does not speak TLS on this port ({cause})",
                "leave --tls out, or give the server a certificate (server.tls_cert); the "
                "dashboard has a port of its own",
            ) from None
        except OSError as error:
            raise StepFailed(
                f"the connection ended during the TLS handshake: {reason_of(error)}",
                "read the server's log; a proxy in between may not let TLS through",
            ) from None

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The encrypted socket, where there is one."""
        return self._socket if isinstance(self._socket, ssl.SSLSocket) else None

    def server_speaks_tls(self) -> bool:
        """Whether a TLS handshake succeeds there, with any certificate; on a new connection."""
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        address = (self._target.host, self._target.port)
        try:
            secured(self._connected(), anybody, address).close()
        except (StepFailed, TlsError, OSError):
            return False
        return True

    def send(self, data: bytes | bytearray) -> None:
        """Send bytes. Where the server has closed, what it sent last is still to be read."""
        assert self._socket is not None
        try:
            self._socket.sendall(data)
        except OSError:
            return

    def receive(self, slow: str = "raise --timeout, or read the server's log") -> list[Any]:
        """The next message other than SETTINGS. `slow`: what to do where none comes.

        Errors: Refusal for an ERROR; NoAnswer.
        """
        while (message := self._message(slow))[0] == SETTINGS:
            pass
        if message[0] == ERROR and len(message) >= 4:
            about = message[4] if len(message) > 4 and isinstance(message[4], dict) else None
            raise Refusal(str(message[1]), str(message[2]), about)
        return message

    def _message(self, slow: str) -> list[Any]:
        assert self._socket is not None
        try:
            message = receive_message(self._socket, max_bytes=MAX_BYTES)
        except Unreadable as problem:
            other = _KNOWN.get(problem.received[:4])
            text = str(problem) if other is None else f"expected a message, got {other}"
            raise NoAnswer(text, PORT_HINT) from None
        except TimeoutError:
            raise NoAnswer(f"no answer within {self._target.timeout_s:g} s", slow) from None
        except OSError as error:
            raise NoAnswer(
                f"the connection broke: {reason_of(error)}",
                "read the server's log; TLS on one side only looks like this too",
            ) from None
        if message is None:
            raise NoAnswer(
                "the server closed the connection without an answer",
                "check the port (that of the older clients, tempest.port, does not answer), and "
                "read the server's log",
            )
        return message


def _certificate_cure(error: ssl.SSLCertVerificationError) -> str:
    message = error.verify_message.lower()
    if "expired" in message or "not yet valid" in message:
        return "renew the server's certificate, and check the clocks of both machines"
    if "mismatch" in message or "not valid for" in message:
        return (
            "connect to the name in the certificate, or make one that names this address "
            "(subjectAltName)"
        )
    return "give its certificate, or that of its signer, with --ca"


def reason_of(error: BaseException) -> str:
    """Why, in a few words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
