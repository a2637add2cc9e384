"""A running server checked from the game's side, step by step, without disturbing its run.

The first HELLO names a protocol version that does not exist. Every server refuses it, but checks
the token first, and an understudy server adds the spec of its run. With that spec a game in the
role `eval` connects: it decides nothing, nothing is learned from it, and it leaves before an
episode has ended, so that it does not count as an evaluation.
"""

from __future__ import annotations

import math
import socket
import ssl
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from protocol.messages import ACTION, PONG, WELCOME
from server.commands.doctor.connection import (
    PORT_HINT,
    NoAnswer,
    Refusal,
    ServerConnection,
    Target,
    reason_of,
)
from server.commands.doctor.report import StepFailed, StepResult, failed, ok, skipped, warning
from server.net.plain_messages import message
from understudy_client import wire
from understudy_client.observations import NAME
from understudy_client.spec import GameSpec
from understudy_client.tensors import DTYPES

_FOLLOW = "follow the server's message"

STEPS = ("name", "port", "tls", "token", "hello", "spec", "frame", "latency")

NO_VERSION = 0
"""A version of the protocol that never was."""

CLIENT = "understudy-doctor/1"

PINGS = 20
SLOW_MS = 50.0
"""A game at 60 frames a second has 17 ms for a frame; three of them are felt."""

SOON_DAYS = 14.0
"""A certificate that ends so soon should have been renewed."""


def examine(target: Target) -> Iterator[StepResult]:
    """The steps, one after the other, each as soon as it is known. Behind one that fails, the
    others are skipped."""
    examination = _Examination(target)
    done: set[str] = set()
    try:
        for result in examination.steps():
            done.add(result.step)
            yield result
    except StepFailed as problem:
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
        self._target = target
        self._connection = ServerConnection(target)
        self.step = STEPS[0]

    def close(self) -> None:
        self._connection.close()

    def steps(self) -> Iterator[StepResult]:
        """Errors: StepFailed, in the step `self.step`."""
        yield self._name()
        self.step = "port"
        begin = time.perf_counter()
        self._connection.open_tcp()
        yield ok("port", f"open; connected within {1e3 * (time.perf_counter() - begin):.1f} ms")
        self.step = "tls"
        self._connection.encrypt()
        if self._target.tls is not None:
            yield self._certificate()
        about = self._token()
        if self._target.tls is None:
            yield ok("tls", "not encrypted (no --tls)")
        said = "the server accepts it" if self._target.token else "the server needs none"
        yield ok("token", said)
        self.step = "hello"
        yield self._hello(about)
        self.step = "spec"
        game = None if about is None else about.get("game")
        if game is None:
            why = "the server does not tell" if about is None else "no game has decided it yet"
            yield skipped("spec", f"{why}; the first game that connects decides it")
            yield skipped("frame", "not tried: the spec is not known")
            yield skipped("latency", "not tried: a server answers PING only after HELLO")
            return
        spec = self._spec(game)
        self._connection.open_tcp()
        self._connection.encrypt()
        self._enter(spec)
        yield ok("spec", f"the run's game is {spec.game!r}: {_described(spec)}")
        self.step = "frame"
        yield self._frame(spec)
        self.step = "latency"
        yield self._latency()
        self._connection.send(wire.encode_bye())

    # The steps.

    def _name(self) -> StepResult:
        host = self._target.host
        try:
            found = socket.getaddrinfo(host, self._target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise StepFailed(
                f"this machine cannot resolve the name {host}: {reason_of(error)}",
                "check the spelling; use the server's address instead, or add the name to DNS or "
                "/etc/hosts",
            ) from None
        addresses = dict.fromkeys(str(each[4][0]) for each in found)
        return ok("name", f"{host} is {', '.join(addresses)}")

    def _certificate(self) -> StepResult:
        sock = self._connection.tls
        assert sock is not None
        text = f"{sock.version()}, {(sock.cipher() or ('?',))[0]}"
        end = (sock.getpeercert() or {}).get("notAfter")
        if not isinstance(end, str):
            return ok("tls", text)
        ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(end), UTC)
        days = (ends - datetime.now(UTC)).total_seconds() / 86_400
        text += f"; the certificate is good until {ends:%Y-%m-%d}"
        if days < SOON_DAYS:
            return warning("tls", text, "renew it; the server reloads it by itself")
        return ok("tls", text)

    def _token(self) -> dict[str, Any] | None:
        """Check the token, by a HELLO that is refused; what the server tells about itself."""
        fields = {"protocol": NO_VERSION, "client": CLIENT, "token": self._target.token}
        self.step = "hello"  # until something answers that checks tokens
        self._connection.send(message(1, fields))
        try:
            answer = self._connection.receive()
        except NoAnswer:
            if self._target.tls is None and self._connection.server_speaks_tls():
                self.step = "tls"
                raise StepFailed(
                    "the server speaks TLS only on this port",
                    "give --tls, and --ca if the system does not trust its certificate",
                ) from None
            raise
        except Refusal as refusal:
            self.step = "token"
            if refusal.code == "protocol_version":
                return refusal.about
            if refusal.code == "bad_token":
                needed = "another token" if self._target.token else "a token, and none was given"
                raise StepFailed(
                    f"the server needs {needed}",
                    "give the server's token (server.token, or the file server.token_file) with "
                    "--token-file",
                ) from None
            if refusal.code == "too_many_attempts":
                raise StepFailed(refusal.message, "wait, then try the right token") from None
            self.step = "hello"
            raise StepFailed(f"the server refuses: {refusal}", _FOLLOW) from None
        raise NoAnswer(
            f"expected a refusal of protocol {NO_VERSION}, got a message of type {answer[0]}",
            "this is no understudy server",
        )

    def _hello(self, about: dict[str, Any] | None) -> StepResult:
        if about is None:
            return ok("hello", "the server answers; it does not tell its version")
        version, name = about.get("protocol"), about.get("server")
        if version != wire.PROTOCOL_VERSION:
            raise StepFailed(
                f"{name} speaks protocol {version}, and this program {wire.PROTOCOL_VERSION}",
                "use a client of the server's version",
            )
        return ok("hello", f"{name}, protocol {version}")

    def _spec(self, game: Any) -> GameSpec:
        try:
            return msgspec.convert(game, GameSpec)
        except msgspec.ValidationError as error:
            raise StepFailed(
                f"the server's spec cannot be read: {error}",
                "run this command in the server's version",
            ) from None

    def _enter(self, spec: GameSpec) -> None:
        """HELLO and WELCOME, as a game of evaluation."""
        hello = wire.encode_hello(
            client=CLIENT, role="eval", token=self._target.token, **spec.fields()
        )
        self._connection.send(hello)
        try:
            answer = self._connection.receive(
                "the server may still be loading its network; try again, or raise --timeout"
            )
        except Refusal as refusal:
            raise StepFailed(f"the server refuses: {refusal}", _FOLLOW) from None
        if answer[0] != WELCOME:
            raise StepFailed(f"expected WELCOME, got a message of type {answer[0]}", PORT_HINT)

    def _frame(self, spec: GameSpec) -> StepResult:
        """One frame of zeros: answered by the network, stored by nobody."""
        obs = bytes(
            sum(DTYPES[each.dtype].itemsize * math.prod(each.shape) for each in spec.observations)
        )
        rewards = [0.0] * len(spec.rewards)
        begin = time.perf_counter()
        self._connection.send(wire.encode_frame(0, 0, obs, rewards if len(rewards) > 1 else 0.0))
        try:
            answer = self._connection.receive(
                "the games wait for the trainer, or the server hangs; read its log"
            )
        except Refusal as refusal:
            raise StepFailed(f"the server refuses the frame: {refusal}", _FOLLOW) from None
        took_ms = 1e3 * (time.perf_counter() - begin)
        if answer[0] != ACTION or answer[1:3] != [0, 0] or answer[3] is None or len(answer) < 7:
            raise StepFailed(
                f"expected ACTION for slot 0, seq 0, got {str(answer)[:200]}", PORT_HINT
            )
        return ok("frame", f"answered within {took_ms:.1f} ms by policy {answer[5]}")

    def _latency(self) -> StepResult:
        times = []
        for number in range(PINGS):
            begin = time.perf_counter()
            self._connection.send(wire.encode_ping(number))
            try:
                answer = self._connection.receive("the server hangs, or the network loses packets")
            except Refusal as refusal:
                raise StepFailed(f"the server refuses: {refusal}", _FOLLOW) from None
            if answer[0] != PONG:
                raise StepFailed(f"expected PONG, got a message of type {answer[0]}", PORT_HINT)
            times.append(1e3 * (time.perf_counter() - begin))
        median = statistics.median(times)
        text = f"{PINGS} round trips: median {median:.2f} ms, slowest {max(times):.2f} ms"
        if median > SLOW_MS:
            return warning(
                "latency", text, "move the games nearer to the server, or use a wired network"
            )
        return ok("latency", text)


def _described(spec: GameSpec) -> str:
    shown = ", ".join(
        f"{'' if each.name == NAME else each.name + ' '}{each.dtype} "
        f"[{' x '.join(map(str, each.shape))}]"
        for each in spec.observations
    )
    heads = ", ".join(head.name for head in spec.actions)
    return f"{shown}, actions {heads}"
