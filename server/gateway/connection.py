"""One client's connection: an asyncio Protocol around a ServerSession."""

from __future__ import annotations

import asyncio
from typing import cast

import numpy as np
import numpy.typing as npt

from protocol import codec
from protocol.errors import RemoteError
from protocol.messages import (
    Error,
    Frame,
    Frames,
    HelloFields,
    Ping,
    Pong,
    Settings,
    VersionError,
    Welcome,
)
from protocol.session import State
from server.gateway import deadlines
from server.gateway.episode_numbers import EpisodeNumbers
from server.gateway.frame_loop import FrameLoop
from server.gateway.host import Host
from server.gateway.wire_session import WireSession
from server.net.rate_limits import TokenBucket, address_of

GOODBYE_S = 2.0
"""How long a refused client has to read why before the connection is cut. It is read from
meanwhile, and what comes is thrown away: closing with unread input would reset the connection and
take the explanation with it."""

WRITE_HIGH_BYTES = 256 * 1024
"""Replies that may wait for a client before it is no longer read from. A reply is some 20 bytes
and a slot has at most one, so only a client that does not read gets here."""


PINGS_PER_S = 100.0
PINGS_BURST = 1000.0
"""PINGs of a connection: each is answered at once, whatever else waits."""


class GameConnection(asyncio.Protocol):
    """Reads, enforces deadlines, and passes frames to the frame loop."""

    first_message = "HELLO"
    """What a client has to say first."""

    def __init__(self, gateway: Host[GameConnection], session: WireSession) -> None:
        self._gateway = gateway
        self._config = gateway.config.server
        self.session = session
        self._frame_loop: FrameLoop | None = None
        """What answers frames; None before WELCOME."""
        self.rows: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self.number = 0
        """The session's number, unique in a run; 0 before WELCOME."""
        self.announced: int | None = None
        """Episodes of evaluation that the client said it would play here."""
        self.said_bye = False
        """The client is done."""
        self._transport: asyncio.Transport | None = None
        self._peer = self.address = ""
        """`address`: whom it counts for (server.net.rate_limits)."""
        self._tls = False
        self._bucket: TokenBucket | None = None
        """What its address may send; None where that is not limited."""
        self._pings = TokenBucket(PINGS_PER_S, PINGS_BURST, gateway.now())
        self.opened = self._heard = gateway.now()
        """When it was accepted, by the gateway's clock."""
        self._unread_since: float | None = None
        self._goodbye_since: float | None = None
        self._ring_full = False
        self._ahead = False
        """The client has sent more than may wait for an answer."""
        self._too_fast = False
        """Its address has sent more than it may."""
        self._numbers: EpisodeNumbers | None = None
        """What its frames tell beside their rewards, if it has declared such numbers."""
        self.lock_step = False
        """It plays for training, and can be made to wait for the trainer."""
        self._held = False
        """It waits for the trainer."""
        self._paused_since: float | None = None
        # Before HELLO: what has come, and waits to be looked at (server.gateway.newcomers).
        self._early = bytearray()
        self._early_end = self._late = self._queued = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(WRITE_HIGH_BYTES)
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if peer else "a client"
        self.address = address_of(peer[0]) if peer else ""
        self._tls = transport.get_extra_info("ssl_object") is not None
        try:
            self._bucket = self._gateway.opened(self)
        except RemoteError as error:
            self.fail(error)
            if self._gateway.crowded:
                self._transport.abort()  # a moment to read why is for quieter times

    def data_received(self, data: bytes) -> None:
        self._heard = self._gateway.now()
        if self._goodbye_since is not None:
            return
        if self.session.state is State.AWAIT_HELLO:
            self._early += data
            self._queue()
            return
        try:
            self._take_in(data)
        except RemoteError as error:
            self.fail(error)

    def _queue(self) -> None:
        """It has not said HELLO: it waits until newcomers are served, and is not read from."""
        if not self._queued:
            self._queued = True
            self._apply_pause()
            self._gateway.newcomers.add(self._serve)

    def _serve(self) -> None:
        """Its turn has come. However much has come of it, this is one piece of work."""
        self._queued = False
        if self._transport is None:
            return
        try:
            data, self._early = bytes(self._early), bytearray()
            self._take_in(data)
            if self._early_end:
                self.session.ended()
            elif self._late and self.silent:
                raise deadlines.handshake_timeout(
                    self._config.handshake_timeout_s, self.first_message, self.session.held
                )
        except RemoteError as error:
            self.fail(error)
        except Exception:
            self._transport.abort()
            raise
        if self._early_end:
            self._transport.close()
        self._apply_pause()

    def _take_in(self, data: bytes) -> None:
        """What these bytes complete. Errors: RemoteError."""
        for message in self.session.receive(data):
            if type(message) is Frame:
                assert self._frame_loop is not None
                if self._numbers is not None:
                    self._numbers.frame(message)
                self._frame_loop.add_frame(self, message)
                self._gateway.schedule_turn()
                if self._bucket is not None:
                    self._spend(1)
            elif type(message) is Frames:
                assert self._frame_loop is not None
                if self._numbers is not None:
                    self._numbers.frames(message)
                self._frame_loop.add_frames(self, message)
                self._gateway.schedule_turn()
                if self._bucket is not None:
                    self._spend(len(self.rows))
            elif type(message) is HelloFields:
                self._gateway.said_hello(self)
            elif type(message) is Ping:
                self._count_ping()
                self.send(codec.encode(Pong(message.nonce)))
                if wait_s := self._gateway.addresses.echo(self.address, len(message.nonce)):
                    self._read_no_more_for(wait_s)
            else:
                self.said_bye = True
                self._close()
                return

    def _count_ping(self) -> None:
        """Errors: RemoteError `too_fast`."""
        if self._pings.take(1, self._heard):
            raise RemoteError(
                "too_fast",
                f"more than {PINGS_PER_S:g} PINGs a second; one every few seconds keeps "
                "a paused game connected",
                retry=True,
            )

    def eof_received(self) -> bool:
        if self.silent and not self._tls:
            self._early_end = True
            self._queue()
            return True  # `_serve` closes it
        try:
            self.session.ended()
        except RemoteError as error:
            self.fail(error)  # a client that only ended its own side can still read why
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        try:
            self.session.ended()
        except RemoteError as error:
            self._note(error)
        self.session.failed()
        self._transport = None
        self._gateway.lost(self)

    def pause_writing(self) -> None:
        self._unread_since = self._gateway.now()
        self._apply_pause()

    def resume_writing(self) -> None:
        self._unread_since = None
        self._apply_pause()

    # What the gateway and its frame loop call.

    @property
    def waits_for_welcome(self) -> bool:
        """HELLO came, WELCOME has not been sent."""
        return self.session.state is State.AWAIT_WELCOME

    @property
    def silent(self) -> bool:
        """It has not said who it is."""
        return self.session.state is State.AWAIT_HELLO and not self.ending

    @property
    def paused(self) -> bool:
        """It is not read from."""
        return self._paused_since is not None

    @property
    def peer(self) -> str:
        """Who is at the other end: host:port."""
        return self._peer

    @property
    def ending(self) -> bool:
        """All is said; it only has to read that."""
        return self._goodbye_since is not None

    def welcome(self, message: Welcome, rows: npt.NDArray[np.int64], frame_loop: FrameLoop) -> None:
        """Let the client play, with these rows of the frame loop's table."""
        self.number, self.rows = message.fields.session, rows
        self._frame_loop = frame_loop
        self.session.welcomed()
        self.tell(message)
        hello = self.session.hello
        assert hello is not None
        self.lock_step = hello.role == "train" and not hello.realtime
        if hello.metrics:
            kept = frame_loop.numbers if hello.role == "train" else None
            self._numbers = EpisodeNumbers(hello.metrics, hello.slots, kept)
        self._gateway.plays(self)
        self._gateway.log.welcomed(self._peer, self.address, self.number, hello)

    def send(self, data: bytes) -> None:
        if self._transport is not None and self._goodbye_since is None:
            self._transport.write(data)

    def tell(self, message: Welcome | Settings | Error | VersionError) -> None:
        """Send what is no answer to a frame."""
        self.send(codec.encode(message))

    def answered(self, slot: int | None) -> None:
        if slot is None:
            self.session.answered_all()
        else:
            self.session.answered(slot)

    def fail(self, error: RemoteError) -> None:
        """Tell the client what is wrong, and end the connection once it can have read it."""
        if self._goodbye_since is not None or self._transport is None:
            return
        if self.session.sent_wrong_token:
            error = self._gateway.log.wrong_token(self.address, error)
        if error.code == "protocol_version":
            about = self._gateway.about()
            self.tell(VersionError(error.code, error.message, error.retry, about))
        else:
            self.tell(Error(error.code, error.message, error.retry))
        self._note(error)
        self._close()

    def _note(self, error: RemoteError) -> None:
        hello = self.session.hello
        client = hello.client if hello else ""
        self._gateway.log.failed(self._peer, self.address, error, client, self.number)

    def ring_full(self, full: bool) -> None:
        """Stop or resume reading because of the step ring."""
        self._ring_full = full
        self._apply_pause()

    def hold(self, held: bool) -> None:
        """Stop or resume reading because games are as far ahead of training as they may be. A game
        that cannot wait goes on."""
        self._held = held and self.lock_step
        self._apply_pause()

    def check(self, now: float) -> None:
        """Enforce the deadlines; called a few times a second."""
        config = self._config
        if self._transport is None:
            return
        if self._goodbye_since is not None:
            if now - self._goodbye_since > GOODBYE_S:
                self._transport.abort()
            elif self._tls:
                self._transport.close()  # TLS cannot end one direction alone: not at once, then
        elif self._unread_since is not None:
            if now - self._unread_since > config.write_timeout_s:
                self.fail(deadlines.slow_reader(config.write_timeout_s))
        elif self._paused_since is not None:
            pass  # it cannot be heard
        elif self.waits_for_welcome:
            self._heard = now  # it is us who make it wait
        elif self.session.state is State.AWAIT_HELLO:
            if now - self.opened > config.handshake_timeout_s:
                self._late = True
                self._queue()
        elif now - self._heard > config.idle_timeout_s:
            self.fail(deadlines.idle_timeout(config.idle_timeout_s))

    def _close(self) -> None:
        """End in order: no more from us, and a moment for the client to read and close."""
        self.session.failed()
        self._goodbye_since = self._gateway.now()
        self._gateway.ending(self)
        self._apply_pause()
        transport = self._transport
        if transport is not None and not transport.is_closing() and not self._tls:
            transport.write_eof()

    def _spend(self, frames: int) -> None:
        """So many frames came. Where its address has had all that it may have, it is not read from
        until that is made up for."""
        assert self._bucket is not None
        wait_s = self._bucket.take(frames, self._heard)
        if wait_s and not self._too_fast:
            self._gateway.log.throttled(self._peer, self.address)
            self._read_no_more_for(wait_s)

    def _read_no_more_for(self, wait_s: float) -> None:
        if not self._too_fast:
            self._too_fast = True
            self._gateway.later(wait_s, self._slow_enough)
            self._apply_pause()

    def _slow_enough(self) -> None:
        self._too_fast = False
        self._apply_pause()

    def _apply_pause(self) -> None:
        reasons = (
            self._ring_full
            or self._held
            or self._unread_since is not None
            or self._ahead
            or self._too_fast
        )
        wanted = (reasons or self._queued) and self._goodbye_since is None
        if wanted is (self._paused_since is not None) or self._transport is None:
            return
        now = self._gateway.now()
        if self._paused_since is None:
            self._paused_since = now
            self._transport.pause_reading()
        else:
            # The clocks stood still meanwhile.
            self.opened += now - self._paused_since
            self._heard += now - self._paused_since
            self._paused_since = None
            self._transport.resume_reading()
