"""The link between a gateway and its supervisor: messages heard and said."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any, TypeVar

from protocol.spaces import GameSpec
from server.ipc.messages import GatewayReport, Joined, Left, Proposed, SaveWanted, Settled
from server.ipc.pipe_writer import PipeWriter

SAVE_WANTED_S = 1.0
"""How often the supervisor hears that clients want a checkpoint. Its own pause is longer."""

M = TypeVar("M")


class SupervisorLink:
    """Both directions of the pipe."""

    def __init__(
        self,
        pipe: PipeWriter,
        index: int,
        loop: asyncio.AbstractEventLoop,
        gone: Callable[[], None],
    ) -> None:
        """`index`: which gateway this is. `gone`: called when the supervisor is no more."""
        self._pipe = pipe
        self._index = index
        self._loop = loop
        self._gone = gone
        self._handlers: dict[type, Callable[[Any], None]] = {}
        self._save_quiet_until = 0.0

    # Heard.

    def on(self, kind: type[M], handler: Callable[[M], None]) -> None:
        """Have messages of this class handled. Others are not meant for gateways."""
        self._handlers[kind] = handler

    def listen(self) -> None:
        """Handle what comes from now on."""
        self._loop.add_reader(self._pipe.fileno(), self.receive)
        os.set_blocking(self._pipe.fileno(), True)  # uvloop has changed that; messages are whole

    def stop_listening(self) -> None:
        """Handle no more."""
        self._loop.remove_reader(self._pipe.fileno())

    def receive(self) -> None:
        """Handle all that the supervisor has sent."""
        while True:
            try:
                if not self._pipe.poll():
                    return
                message = self._pipe.recv()
            except (EOFError, OSError):
                self._gone()
                return
            handler = self._handlers.get(type(message))
            if handler is not None:
                handler(message)

    # Said. A supervisor that is gone hears nothing: `gone` ends the gateway in order.

    def propose(self, spec: GameSpec) -> None:
        """A game came whose spec could become the run's."""
        self._send(Proposed(spec))

    def joined(self, message: Joined) -> None:
        """A client was welcomed."""
        self._send(message)

    def left(self, session: int) -> None:
        """A client that had joined is gone."""
        self._send(Left(session))

    def save_wanted(self) -> None:
        """A client asked for a checkpoint. Said once in SAVE_WANTED_S."""
        if self._loop.time() >= self._save_quiet_until:
            self._save_quiet_until = self._loop.time() + SAVE_WANTED_S
            self._send(SaveWanted())

    def report(self, report: GatewayReport) -> None:
        """How it goes."""
        self._send(report)

    def settled(self, settled: bool) -> None:
        """The answer to Settle."""
        self._send(Settled(f"gateway-{self._index}", settled))

    def _send(self, message: Any) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(message)
