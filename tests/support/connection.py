"""A connection between a fake socket and a fake gateway."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from config.models import Config, ServerConfig
from protocol import codec
from protocol.errors import RemoteError
from protocol.messages import Error, HelloFields, Welcome, WelcomeFields
from protocol.session import ServerSession
from server.gateway.connection import GameConnection
from server.gateway.connection_log import ConnectionLog
from server.net.rate_limits import AddressLimits, TokenBucket
from tests.support.worlds import SPEC

FIELDS = HelloFields(
    protocol=1,
    client="test/1",
    game=SPEC.game,
    observation=SPEC.observation,
    actions=SPEC.actions,
    slots=2,
)

HELLO = codec.encode_hello(FIELDS)

CONFIG = Config(
    server=ServerConfig(
        handshake_timeout_s=10.0, idle_timeout_s=60.0, write_timeout_s=30.0, max_message_bytes=2048
    )
)


class FakeTransport(asyncio.Transport):
    """Notes what a connection does to its socket."""

    def __init__(self) -> None:
        super().__init__({"peername": ("10.0.0.1", 1234)})
        self.sent = bytearray()
        self.reading = True
        self.half_closed = False
        self.aborted = self.closed = False
        self.high = 0

    def write(self, data: Any) -> None:
        assert not self.half_closed, "written after the end"
        self.sent += data

    def write_eof(self) -> None:
        self.half_closed = True

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert low is None
        self.high = high or 0


class FakeFrameLoop:
    """Takes frames and answers none."""

    def __init__(self) -> None:
        self.frames: list[Any] = []

    def add_frame(self, _player: Any, frame: Any) -> None:
        self.frames.append(frame)

    add_frames = add_frame


class FakeLog(ConnectionLog):
    """Counts how often an address was held."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(AddressLimits(None, clock), None)
        self.held = 0

    def throttled(self, _peer: str, _address: str) -> None:
        self.held += 1


class AtOnce:
    """Newcomers are served at once."""

    def add(self, work: Callable[[], None]) -> None:
        work()


class FakeGateway:
    """What a connection knows of its gateway. The clock stands still."""

    def __init__(self) -> None:
        self.config = CONFIG
        self.frame_loop = FakeFrameLoop()
        self.time = 1000.0
        self.refusal: RemoteError | None = None
        self.hellos: list[GameConnection] = []
        self.gone: list[GameConnection] = []
        self.playing: list[GameConnection] = []
        self.plays = self.playing.append
        self.told: list[GameConnection] = []
        self.newcomers = AtOnce()
        self.turns = 0
        self.log = FakeLog(self.now)
        self.addresses = AddressLimits(None, self.now)
        self.crowded = False
        self.bucket: TokenBucket | None = None
        self.due: list[tuple[float, Callable[[], None]]] = []

    @property
    def errors(self) -> Counter[str]:
        return self.log.errors

    def now(self) -> float:
        return self.time

    def opened(self, _connection: GameConnection) -> TokenBucket | None:
        if self.refusal:
            raise self.refusal
        return self.bucket

    def about(self) -> dict[str, Any]:
        return {"protocol": 1}

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        self.due.append((seconds, what))

    def said_hello(self, connection: GameConnection) -> None:
        self.hellos.append(connection)

    def schedule_turn(self) -> None:
        self.turns += 1

    def ending(self, connection: GameConnection) -> None:
        self.told.append(connection)

    def lost(self, connection: GameConnection) -> None:
        self.gone.append(connection)


class Wire:
    """A connection between a fake socket and a fake gateway."""

    def __init__(self, refusal: RemoteError | None = None) -> None:
        self.gateway = FakeGateway()
        self.gateway.refusal = refusal
        self.transport = FakeTransport()
        session = ServerSession(max_message_bytes=CONFIG.server.max_message_bytes)
        self.connection = GameConnection(self.gateway, session)  # type: ignore[arg-type]
        self.connection.connection_made(self.transport)

    def receive(self, data: bytes) -> None:
        self.connection.data_received(data)

    def check_after(self, seconds: float) -> None:
        self.gateway.time += seconds
        self.connection.check(self.gateway.time)

    def messages(self) -> list[Any]:
        out, data = [], bytes(self.transport.sent)
        while data:
            length = int.from_bytes(data[:4], "big")
            out.append(codec.decode_server(data[4 : 4 + length]))
            data = data[4 + length :]
        return out

    @property
    def error(self) -> Error | None:
        found = [message for message in self.messages() if isinstance(message, Error)]
        assert len(found) <= 1, "a client is told one error"
        return found[0] if found else None

    @property
    def code(self) -> str | None:
        return self.error.code if self.error else None

    def welcome(self, fields: WelcomeFields, rows: list[int]) -> None:
        turn: Any = self.gateway.frame_loop
        self.connection.welcome(Welcome(fields), np.array(rows), turn)

    def playing(self, **hello: Any) -> Wire:
        self.receive(codec.encode_hello(msgspec.structs.replace(FIELDS, **hello)))
        fields = WelcomeFields(session=5, protocol=1, server="s/1", settings={"level": 3})
        self.welcome(fields, [0, 1])
        self.transport.sent.clear()
        return self
