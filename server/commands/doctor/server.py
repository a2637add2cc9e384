"""A running server from the game's side, step by step, without doing it any harm.

First a HELLO of a protocol that does not exist: every server refuses it, but not before it has
looked at the token, and this one says then what its run is about. Only with that spec a game of
evaluation connects, which decides nothing, is learnt from by nobody, and leaves before an episode
has ended, so that there is no evaluation either.
"""

from __future__ import annotations

import socket
import ssl
import statistics
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from server.commands.doctor.report import Failed, Finding, failed, ok, skipped, warning
from understudy_client import wire
from understudy_client.errors import TlsError
from understudy_client.spec import DTYPES, GameSpec
from understudy_client.tls import secured

STEPS = ("name", "port", "tls", "token", "hello", "spec", "frame", "latency")

NO_VERSION = 0
"""A version of the protocol that never was."""

CLIENT = "understudy-doctor/1"

PINGS = 20
SLOW_MS = 50.0
"""A game at 60 frames a second has 17 ms for a frame; three of them are felt."""

SOON_DAYS = 14.0
"""A certificate that ends so soon should have been renewed."""

LONGEST = 2**20

_TEXTS = {b"HTTP": "HTTP (a dashboard?)", b"SSH-": "SSH"}


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


class Silence(Failed):
    """What answers, if anything, is no understudy server, or none that can be read."""


def examine(target: Target) -> Iterator[Finding]:
    """The steps, one after the other, each as soon as it is known. Behind one that fails, the
    others are skipped."""
    examination = _Examination(target)
    done: set[str] = set()
    try:
        for finding in examination.steps():
            done.add(finding.step)
            yield finding
    except Failed as problem:
        step = examination.step
        for before in STEPS[: STEPS.index(step)]:
            if before not in done:
                done.add(before)
                yield skipped(before, f"not known: {step} failed")
        yield failed(step, problem.text, problem.cure)
        done.add(step)
        for after in STEPS:
            if after not in done:
                yield skipped(after, f"not tried: {step} failed")
    finally:
        examination.close()


class _Examination:
    def __init__(self, target: Target) -> None:
        self._patient = target
        self._where = f"{target.host}:{target.port}"
        self._socket: socket.socket | None = None
        self.step = STEPS[0]

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def steps(self) -> Iterator[Finding]:
        """Errors: Failed, in the step `self.step`."""
        yield self._name()
        self.step = "port"
        begin = time.perf_counter()
        plain = self._reach()
        yield ok("port", f"open; connected within {1e3 * (time.perf_counter() - begin):.1f} ms")
        self.step = "tls"
        self._encrypt(plain)
        if self._patient.tls is not None:
            yield self._certificate()
        about = self._token()
        if self._patient.tls is None:
            yield ok("tls", "not encrypted, as asked (no --tls)")
        said = "the server takes the token" if self._patient.token else "the server asks for none"
        yield ok("token", said)
        self.step = "hello"
        yield self._hello(about)
        self.step = "spec"
        game = None if about is None else about.get("game")
        if game is None:
            why = "it does not say" if about is None else "no game has decided it yet"
            yield skipped("spec", f"{why}, and to offer one would decide it: the first game will")
            yield skipped("frame", "not tried: there is no spec to play by")
            yield skipped("latency", "not tried: a server answers PING behind HELLO alone")
            return
        spec = self._spec(game)
        self.close()
        self._encrypt(self._reach())
        self._enter(spec)
        yield ok("spec", f"the run's game is {spec.game!r}: {_described(spec)}")
        self.step = "frame"
        yield self._frame(spec)
        self.step = "latency"
        yield self._latency()
        self._send(wire.encode_bye())

    # The steps.

    def _name(self) -> Finding:
        host = self._patient.host
        try:
            found = socket.getaddrinfo(host, self._patient.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Failed(
                f"{host} is no name that this machine can resolve: {_words(error)}",
                "check the spelling; else use the server's address instead of its name, or have "
                "the name entered in DNS or /etc/hosts",
            ) from None
        addresses = dict.fromkeys(str(each[4][0]) for each in found)
        return ok("name", f"{host} is {', '.join(addresses)}")

    def _reach(self) -> socket.socket:
        target = self._patient
        try:
            plain = socket.create_connection((target.host, target.port), target.timeout_s)
        except ConnectionRefusedError:
            raise Failed(
                f"{self._where} refuses: nothing listens there",
                "start the server, compare the port with the one that it prints, and look where it "
                "listens: with server.host 127.0.0.1 its own machine alone reaches it",
            ) from None
        except TimeoutError:
            raise Failed(
                f"{self._where} did not answer within {target.timeout_s:g} s",
                "a firewall between here and there, or the wrong address: let TCP to this port in",
            ) from None
        except OSError as error:
            raise Failed(
                f"{self._where} cannot be reached: {_words(error)}",
                "check the address, and the network of this machine",
            ) from None
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plain

    def _encrypt(self, plain: socket.socket) -> None:
        """Set `_socket`, with TLS where that was asked for."""
        self._socket = plain
        context = self._patient.tls
        if context is None:
            return
        address = (self._patient.host, self._patient.port)
        try:
            self._socket = secured(plain, context, address)
        except TlsError as error:
            cause = error.__cause__
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise Failed(
                    f"the certificate is not trusted: {cause.verify_message}", _cure_of(cause)
                ) from None
            raise Failed(
                f"the server does not speak TLS on this port ({cause})",
                "leave --tls out, or give the server a certificate (server.tls_cert); the "
                "dashboard has a port of its own",
            ) from None
        except OSError as error:
            raise Failed(
                f"the connection ended during the TLS handshake: {_words(error)}",
                "look into the server's log; a proxy in between may not let TLS through",
            ) from None

    def _certificate(self) -> Finding:
        assert isinstance(self._socket, ssl.SSLSocket)
        text = f"{self._socket.version()}, {(self._socket.cipher() or ('?',))[0]}"
        end = (self._socket.getpeercert() or {}).get("notAfter")
        if not isinstance(end, str):
            return ok("tls", text)
        ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(end), UTC)
        days = (ends - datetime.now(UTC)).total_seconds() / 86_400
        text += f"; the certificate is good until {ends:%Y-%m-%d}"
        if days < SOON_DAYS:
            return warning("tls", text, "renew it; the server takes the new one up by itself")
        return ok("tls", text)

    def _token(self) -> dict[str, Any] | None:
        """Whether the token is right, by a HELLO that goes no further. What the server says of
        itself, where it does."""
        fields = {"protocol": NO_VERSION, "client": CLIENT, "token": self._patient.token}
        self.step = "hello"  # until somebody answers who knows of tokens
        self._send(_message([1, fields]))
        try:
            answer = self._receive()
        except Silence:
            if self._patient.tls is None and self._speaks_tls():
                self.step = "tls"
                raise Failed(
                    "the server speaks TLS on this port, and nothing else",
                    "give --tls, and --ca where its certificate is not one that the system trusts",
                ) from None
            raise
        except Refusal as refusal:
            self.step = "token"
            if refusal.code == "protocol_version":
                return refusal.about
            if refusal.code == "bad_token":
                given = "another token" if self._patient.token else "a token, and none was given"
                raise Failed(
                    f"the server wants {given}",
                    "give the one that the server was started with (server.token, or the file of "
                    "server.token_file) by --token-file",
                ) from None
            if refusal.code == "too_many_attempts":
                raise Failed(refusal.message, "wait, then try the right token") from None
            self.step = "hello"
            raise Failed(f"the server refuses: {refusal}", "do as it says") from None
        raise Silence(
            f"expected a refusal of protocol {NO_VERSION}, got a message of type {answer[0]}",
            "this is no understudy server",
        )

    def _hello(self, about: dict[str, Any] | None) -> Finding:
        if about is None:
            return ok("hello", "the server answers; what it is it does not say")
        version, name = about.get("protocol"), about.get("server")
        if version != wire.PROTOCOL_VERSION:
            raise Failed(
                f"{name} speaks protocol {version}, and this program {wire.PROTOCOL_VERSION}",
                "use a client of the server's version",
            )
        return ok("hello", f"{name}, protocol {version}")

    def _spec(self, game: Any) -> GameSpec:
        try:
            return msgspec.convert(game, GameSpec)
        except msgspec.ValidationError as error:
            raise Failed(
                f"the server's spec cannot be read: {error}",
                "use this command in the server's version",
            ) from None

    def _enter(self, spec: GameSpec) -> None:
        """HELLO and WELCOME, as a game of evaluation."""
        hello = wire.encode_hello(
            client=CLIENT, role="eval", token=self._patient.token, **spec.fields()
        )
        self._send(hello)
        try:
            answer = self._receive(
                "it may still be loading its network; try again, or raise --timeout"
            )
        except Refusal as refusal:
            raise Failed(f"the server refuses: {refusal}", "do as it says") from None
        if answer[0] != 11:
            raise Failed(f"expected WELCOME, got a message of type {answer[0]}", _NOT_OURS)

    def _frame(self, spec: GameSpec) -> Finding:
        """One frame of zeros: answered by the network, stored by nobody."""
        obs = np.zeros(spec.observation.shape, DTYPES[spec.observation.dtype]).tobytes()
        rewards = [0.0] * len(spec.rewards)
        begin = time.perf_counter()
        self._send(wire.encode_frame(0, 0, obs, rewards if len(rewards) > 1 else 0.0))
        try:
            answer = self._receive(
                "the games wait for the trainer, or the server is stuck; its log says which"
            )
        except Refusal as refusal:
            raise Failed(f"the server refuses the frame: {refusal}", "do as it says") from None
        took_ms = 1e3 * (time.perf_counter() - begin)
        if answer[0] != 12 or answer[1:3] != [0, 0] or answer[3] is None or len(answer) < 7:
            raise Failed(f"expected ACTION for slot 0, seq 0, got {str(answer)[:200]}", _NOT_OURS)
        return ok("frame", f"answered within {took_ms:.1f} ms by policy {answer[5]}")

    def _latency(self) -> Finding:
        times = []
        for number in range(PINGS):
            begin = time.perf_counter()
            self._send(wire.encode_ping(number))
            try:
                answer = self._receive("the server is stuck, or the network loses packets")
            except Refusal as refusal:
                raise Failed(f"the server refuses: {refusal}", "do as it says") from None
            if answer[0] != 14:
                raise Failed(f"expected PONG, got a message of type {answer[0]}", _NOT_OURS)
            times.append(1e3 * (time.perf_counter() - begin))
        median = statistics.median(times)
        text = f"{PINGS} round trips: median {median:.2f} ms, slowest {max(times):.2f} ms"
        if median > SLOW_MS:
            return warning("latency", text, "put the games nearer to the server, or by a cable")
        return ok("latency", text)

    def _speaks_tls(self) -> bool:
        """Whether what listens there can be shaken hands with."""
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        address = (self._patient.host, self._patient.port)
        try:
            secured(self._reach(), anybody, address).close()
        except (Failed, TlsError, OSError):
            return False
        return True

    # The wire.

    def _send(self, data: bytes | bytearray) -> None:
        assert self._socket is not None
        try:
            self._socket.sendall(data)
        except OSError:
            return  # what it said before it closed is still to be read

    def _receive(self, slow: str = "raise --timeout, or look into the server's log") -> list[Any]:
        """The next message but SETTINGS. `slow`: what to do where none comes. Errors: Refusal;
        Failed."""
        while (message := self._message(slow))[0] == 16:
            pass
        if message[0] == 15 and len(message) >= 4:
            about = message[4] if len(message) > 4 and isinstance(message[4], dict) else None
            raise Refusal(str(message[1]), str(message[2]), about)
        return message

    def _message(self, slow: str) -> list[Any]:
        head = self._exactly(4, slow)
        (length,) = struct.unpack(">I", head)
        if not 1 <= length <= LONGEST:
            what = _TEXTS.get(head, f"bytes {head.hex(' ')}")
            raise Silence(f"expected a message, got {what}", _NOT_OURS)
        try:
            message = msgspec.msgpack.decode(self._exactly(length, slow))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Silence(f"expected a message: {error}", _NOT_OURS) from None
        if not isinstance(message, list) or not message or type(message[0]) is not int:
            raise Silence("expected a message, got something else", _NOT_OURS)
        return message

    def _exactly(self, count: int, slow: str) -> bytes:
        assert self._socket is not None
        data = b""
        while len(data) < count:
            try:
                piece = self._socket.recv(count - len(data))
            except TimeoutError:
                raise Silence(f"no answer within {self._patient.timeout_s:g} s", slow) from None
            except OSError as error:
                raise Silence(
                    f"the connection broke: {_words(error)}",
                    "look into the server's log; with TLS on one side alone it looks like this too",
                ) from None
            if not piece:
                raise Silence(
                    "the server closed the connection without a word",
                    "is it the right port? The older clients' (tempest.port) is not; look into the "
                    "server's log",
                )
            data += piece
        return data


_NOT_OURS = "is this the port of an understudy server? It prints it when it starts"


def _message(value: Any) -> bytes:
    body = msgspec.msgpack.encode(value)
    return struct.pack(">I", len(body)) + body


def _described(spec: GameSpec) -> str:
    shape = " x ".join(map(str, spec.observation.shape))
    heads = ", ".join(head.name for head in spec.actions)
    return f"{spec.observation.dtype} [{shape}], actions {heads}"


def _cure_of(error: ssl.SSLCertVerificationError) -> str:
    message = error.verify_message.lower()
    if "expired" in message or "not yet valid" in message:
        return "renew the server's certificate, and check the clocks of both machines"
    if "mismatch" in message or "not valid for" in message:
        return (
            "connect to the name that the certificate is of, or make one that names this address "
            "(subjectAltName)"
        )
    return "give the certificate that it is to be trusted by with --ca: its own, or its signer's"


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
