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
from protocol.messages import Error, Frame, HelloFields, Settings, VersionError, Welcome
from protocol.spaces import Part
from protocol.tempest import Replies, TempestFrame, TempestSession, header_fields
from server.gateway.connection import GameConnection, Host
from server.gateway.frame_loop import FrameLoop

log = logging.getLogger("gateway")

_ZAP = 1
"""The bit of the superzapper in the choice of buttons."""


def replies(config: Config) -> Replies:
    """How clients are answered, by these settings."""
    settings, tempest = config.server.settings, config.tempest
    return Replies(
        tempest.reply_bytes,
        tempest.spinner,
        advanced=settings.get(START_ADVANCED, False),
        level=settings.get(START_LEVEL, 1),
    )


class TempestHost(Host, Protocol):
    """What such a connection needs besides."""

    soon: Callable[..., Any]
    """Call a function when what is being done is done: of asyncio's loop."""
    save_wanted: Callable[[], None]
    """A client asked for a checkpoint."""

    @property
    def run_frames(self) -> int:
        """Stored frames of the whole run."""

    @property
    def replies(self) -> Replies:
        """How clients are answered now."""


class TempestContext:
    """What a frame of an older client has beside what the frame loop knows: its header, and how it
    is answered. One for each connection: a client has one frame waiting at most."""

    def __init__(self, host: TempestHost) -> None:
        self.header = b""
        """As it came (protocol.tempest.HEADER)."""
        self.expert_zaps = False
        """So would the client's expert do on the frame that waits for its answer."""
        self._host = host
        self._took: tuple[list[Part], int] | None = None

    def take_took(self) -> tuple[list[Part], int] | None:
        """What was done instead of the last answer of the frame loop, and by whom."""
        took, self._took = self._took, None
        return took

    def encode(self, action: Sequence[Part] | None, actor: int) -> bytes:
        """The answer to the frame. Superzaps of the network are held back now and then."""
        if action is not None and actor == Actor.DQN and not self.expert_zaps:
            buttons, knob = action
            assert isinstance(buttons, int)
            if buttons & _ZAP and random.random() < self._gate():
                action = [buttons & ~_ZAP, knob]
                self._took = action, actor
        return self._host.replies.encode(action)

    @staticmethod
    def expert_fields(contexts: Sequence[TempestContext]) -> Mapping[str, npt.NDArray[Any]]:
        """The fields of these headers, an array [n] for each name of HEADER."""
        headers = b"".join(context.header for context in contexts)
        return header_fields(np.frombuffer(headers, np.uint8).reshape(len(contexts), -1))

    def _gate(self) -> float:
        return scheduled(self._host.config.tempest.zap_gate, self._host.run_frames)


class TempestConnection(GameConnection):
    """A GameConnection in the older format, with two things more: frames that came too early wait,
    and the save signal."""

    first_message = "frame"

    def __init__(self, gateway: TempestHost) -> None:
        self._host = gateway
        self._tempest = TempestSession(gateway.config.tempest.spinner)
        super().__init__(gateway, self._tempest)
        self._saves = False
        """The client asked for a checkpoint with its last frame."""
        self._context = TempestContext(gateway)

    def welcome(self, message: Welcome, rows: npt.NDArray[np.int64], frame_loop: FrameLoop) -> None:
        super().welcome(message, rows, frame_loop)
        self._host.soon(self._go_on)

    def answered(self, slot: int | None) -> None:
        super().answered(slot)
        if self._tempest.more:
            # Not now: a turn is at work.
            self._host.soon(self._go_on)

    def _go_on(self) -> None:
        """Take what has waited."""
        if not self.ending:
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
        self._context.header, self._context.expert_zaps = bytes(frame.header), frame.expert_zaps
        took = self._context.take_took()
        checked = Frame(0, frame.seq, frame.obs, frame.rewards, frame.status, None, took)
        self._frame_loop.add_frame(self, checked, self._context)
        self._gateway.schedule_turn()
        if self._bucket is not None:
            self._spend(1)

    def tell(self, message: Welcome | Settings | Error | VersionError) -> None:
        """The format has no place for anything but answers."""
