"""A connection of an older client for Tempest: a session of one slot like any other, in the format
of protocol.tempest."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agent.schedules import scheduled
from config.models import START_ADVANCED, START_LEVEL, Config
from protocol.actor import Actor
from protocol.messages import (
    RUNNING,
    TRUNCATED,
    Error,
    Frame,
    HelloFields,
    Settings,
    VersionError,
    Welcome,
)
from protocol.spaces import Part
from protocol.tempest import Replies, TempestFrame, TempestSession, header_fields
from protocol.tempest_headers import Phase
from server.gateway.connection import GameConnection
from server.gateway.connection_log import ConnectionLog
from server.gateway.frame_loop import FrameLoop
from server.gateway.game_numbers import GameNumbers
from server.gateway.host import Host
from server.gateway.tempest_evaluations import TRAIN, TempestEvaluations
from server.gateway.tempest_watch import EchoWatch, MisreadLog

log = logging.getLogger("gateway")

_ZAP = 1
"""The bit of the superzapper in the choice of buttons."""


def replies(config: Config) -> dict[int, Replies]:
    """How clients are answered, by these settings: by the length of a reply."""
    settings = config.server.settings
    return {
        length: Replies(
            length,
            config.tempest.spinner,
            advanced=settings.get(START_ADVANCED, False),
            level=settings.get(START_LEVEL, 1),
        )
        for length in (3, 5)
    }


def where_older(port: int | None) -> str:
    """What to do with an older client that connected to the port of the protocol. `port`: where
    they connect; None where they cannot."""
    if port is None:
        return (
            "such clients need a port of their own: start the server with --tempest-port 9999, and "
            "let them connect there"
        )
    return f"such clients connect to port {port} (tempest.port)"


class OlderClients:
    """What the older clients of a gateway share."""

    def __init__(self, log: ConnectionLog) -> None:
        self.misreads = MisreadLog(log)
        """Told which of them seem to read replies of another length."""
        self.numbers = GameNumbers()
        self.evaluations = TempestEvaluations()


class TempestHost(Host[GameConnection], Protocol):
    """What such a connection needs besides."""

    soon: Callable[..., Any]
    """Call a function when what is being done is done: of asyncio's loop."""
    save_wanted: Callable[[], None]
    """A client asked for a checkpoint."""

    @property
    def run_frames(self) -> int:
        """Stored frames of the whole run."""

    @property
    def replies(self) -> dict[int, Replies]:
        """How clients are answered now, by the length of a reply."""

    older: OlderClients

    @property
    def elsewhere(self) -> str:
        """Where clients of the protocol connect."""


class TempestContext:
    """What a frame of an older client has beside what the frame loop knows: its header, and how it
    is answered. One for each connection: a client has one frame waiting at most."""

    def __init__(self, host: TempestHost) -> None:
        self.header = b""
        """As it came (protocol.tempest_headers)."""
        self.reply_bytes = 5
        self.echo = EchoWatch()
        """Of the replies and the headers that follow them."""
        self.gated = True
        """Superzaps of the network may be held back: it is not being evaluated."""
        self.expert_zaps = False
        """So would the client's expert do on the frame that waits for its answer."""
        self._host = host
        self._took: tuple[list[Part], int] | None = None

    def take_took(self) -> tuple[list[Part], int] | None:
        """What was done instead of the last answer of the frame loop, and by whom."""
        took, self._took = self._took, None
        return took

    def encode(self, action: Sequence[Part] | None, actor: int, explored: bool) -> bytes:
        """The answer to the frame. Superzaps of the network are held back now and then."""
        if action is not None and actor == Actor.DQN and self.gated:
            buttons, knob = action
            assert isinstance(buttons, int)
            if buttons & _ZAP and self._held_back(explored):
                action = [buttons & ~_ZAP, knob]
                self._took = action, actor
        reply = self._host.replies[self.reply_bytes].encode(action)
        self.echo.sent(reply)
        return reply

    def _held_back(self, explored: bool) -> bool:
        """Whether a superzap of the network, of chance if it `explored`, is not carried out."""
        tempest = self._host.config.tempest
        if explored and random.random() >= tempest.random_zaps:
            return True
        if self.expert_zaps:
            return False
        return random.random() < scheduled(tempest.zap_gate, self._host.run_frames)

    @staticmethod
    def expert_fields(contexts: Sequence[TempestContext]) -> Mapping[str, npt.NDArray[Any]]:
        """The fields of these headers, an array [n] for each name."""
        headers = b"".join(context.header for context in contexts)
        return header_fields(np.frombuffer(headers, np.uint8).reshape(len(contexts), -1))


class TempestConnection(GameConnection):
    """A GameConnection in the older format, with more: frames that came too early wait, the save
    signal, frames that are no play, and evaluations of which the client knows nothing."""

    first_message = "frame"

    def __init__(self, gateway: TempestHost) -> None:
        self._host = gateway
        tempest = gateway.config.tempest
        self._tempest = TempestSession(
            tempest.spinner, gateway.elsewhere, realtime=tempest.realtime
        )
        super().__init__(gateway, self._tempest)
        self._saves = False
        """The client asked for a checkpoint with its last frame."""
        self._context = TempestContext(gateway)
        self._answers = 0
        self._skip = {Phase(name) for name in gateway.config.tempest.skip}
        self._episode = False
        """One is under way."""
        self._whole = False
        """The next one is from its beginning: the end of something was seen."""
        self._role = TRAIN
        self._score = self._level = 0
        """The most of the episode."""
        self.announced: int | None = None
        """Episodes of evaluation that it plays, as the server has decided."""

    def welcome(self, message: Welcome, rows: npt.NDArray[np.int64], frame_loop: FrameLoop) -> None:
        super().welcome(message, rows, frame_loop)
        header = self._tempest.header
        assert header is not None
        set_to = self._host.config.tempest.reply_bytes
        self._context.reply_bytes = header.reply_bytes if set_to is None else set_to
        self._host.soon(self._go_on)

    def connection_lost(self, exc: Exception | None) -> None:
        older = self._host.older
        older.evaluations.gone(self)
        if self._answers and not self.ending:
            older.misreads.left(self.address, self._answers, self._context.reply_bytes)
        super().connection_lost(exc)

    def answered(self, slot: int | None) -> None:
        super().answered(slot)
        self._answers += 1
        if self._tempest.more:
            # Not now: a turn is at work.
            self._host.soon(self._go_on)

    def hold(self, held: bool) -> None:
        super().hold(held)
        if not held and self._tempest.more:
            self._host.soon(self._go_on)

    def _go_on(self) -> None:
        """Take what has waited."""
        if not self.ending and not self._held:
            self.data_received(b"")

    def _take_in(self, data: bytes) -> None:
        for message in self._tempest.receive(data):
            if type(message) is HelloFields:
                self._gateway.said_hello(self)
            elif type(message) is TempestFrame:
                self._frame(message)
        if self._ahead is not self._tempest.ahead:
            self._ahead = self._tempest.ahead
            self._apply_pause()

    def _frame(self, frame: TempestFrame) -> None:
        assert self._frame_loop is not None
        if frame.save and not self._saves:
            self._host.save_wanted()
        self._saves = frame.save
        context, older = self._context, self._host.older
        if context.echo.heard(frame.told):
            older.misreads.echoes(self._peer, context.echo, context.reply_bytes)
        if self._bucket is not None:
            self._spend(1)
        status, plays = frame.status, frame.phase not in self._skip
        if not plays and not self._episode:
            self._whole = True
            older.numbers.skipped += 1
            self._answer_unseen()
            return
        if not plays and status == RUNNING:
            status = TRUNCATED
        if status == RUNNING and not self._episode:
            self._begin()
        if frame.phase is Phase.PLAY:
            self._score, self._level = max(self._score, frame.score), max(self._level, frame.level)
            older.numbers.see(frame.score, frame.level)
        if status != RUNNING:
            if self._episode and self._role == TRAIN:
                older.numbers.end(self._score, self._level)
            self._whole = True
        self._episode = status == RUNNING
        context.header, context.expert_zaps = bytes(frame.header), frame.expert_zaps
        took = context.take_took()
        checked = Frame(0, frame.seq, frame.obs, frame.rewards, status, None, took)
        self._frame_loop.add_frame(self, checked, context)
        self._gateway.schedule_turn()

    def _begin(self) -> None:
        """An episode begins: decide in which role it is played."""
        loop = self._frame_loop
        assert loop is not None
        self._score = self._level = 0
        if not self._whole:
            return
        turn = self._host.older.evaluations.begin(
            self, self._host.config.tempest, self._host.run_frames, expert=loop.expert is not None
        )
        self.announced = turn.episodes
        if turn.role != self._role:
            self._role = turn.role
            self._context.gated = turn.role == TRAIN
            loop.play_as(self.rows, turn.role)

    def _answer_unseen(self) -> None:
        """Answer a frame that is no play, with zeros: nobody else hears of it."""
        reply = self._host.replies[self._context.reply_bytes].zeros
        self._context.echo.sent(reply)
        self.answered(None)
        self.send(reply)

    def tell(self, message: Welcome | Settings | Error | VersionError) -> None:
        """The format has no place for anything but answers."""
