"""A game's end of the pipe to the process that started it: what it is told, and what it says."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from server.play.game_messages import ServerAway, SharedCounts
from understudy_client import Client

PING_S = 2.0
"""How often a game that waits lets the server know that it is there."""

END_S = 15.0
"""How long a game may take to end once nobody is there who started it."""

CONNECT_S = 20.0
"""What TCP and TLS may take of a game's time without a sign of life."""


class StarterGone(Exception):
    """Whoever started the games is gone."""


class Orders:
    """What this game is told, in the order in which it is told it; and `tell`."""

    def __init__(self, pipe: Connection[Any, Any], client: int, counts: SharedCounts) -> None:
        self.stop = threading.Event()
        self._waiting: queue.SimpleQueue[tuple[str, int | None]] = queue.SimpleQueue()
        self._pipe = pipe
        self._client = client
        self._alive = counts.alive
        self.alive()
        threading.Thread(target=self._listen, daemon=True).start()

    def alive(self, longer_s: float = 0.0) -> None:
        """This game is not hanging; what comes now may take it `longer_s` more than a frame may."""
        self._alive[self._client] = time.monotonic() + longer_s

    def stopped(self) -> bool:
        """Whether it is to end. The client asks while it waits for the server, which is not this
        game's fault."""
        self.alive(CONNECT_S)
        return self.stop.is_set()

    def tell(self, message: Any) -> None:
        """Say something. Errors: StarterGone; not the BrokenPipeError of an emulator's own pipe."""
        try:
            self._pipe.send(message)
        except OSError as error:
            raise StarterGone from error

    def take(self, client: Client | None = None) -> tuple[str, int | None]:
        """The next order, when it comes. `client` is kept from being idle meanwhile."""
        while not self.stop.is_set():
            self.alive(PING_S)
            try:
                return self._waiting.get(timeout=PING_S)
            except queue.Empty:
                if client is not None:
                    client.ping()
        return "stop", None

    def _listen(self) -> None:
        """Take orders in, until the last one or until the other end is gone."""
        order: tuple[str, int | None] = ("", None)
        gone = False
        while order[0] != "stop":
            try:
                order = self._pipe.recv()
            except (EOFError, OSError):
                order, gone = ("stop", None), True
            if order[0] == "stop":
                self.stop.set()
            self._waiting.put(order)
        if gone:
            time.sleep(END_S)
            os._exit(1)  # it hangs, and nobody else is there to end it


class PassOn(logging.Handler):
    """What the client logs of its trouble, to whoever started the games: one for all of them."""

    def __init__(self, client: int, orders: Orders) -> None:
        super().__init__()
        self._client = client
        self._orders = orders

    def emit(self, record: logging.LogRecord) -> None:
        """Errors: StarterGone."""
        over = record.levelno < logging.WARNING
        self._orders.tell(ServerAway(self._client, "" if over else record.getMessage()))
