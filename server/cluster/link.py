"""The driver's link to an actor: one thread, which exchanges orders and replies with it.

Each exchange has a number and is meant for one incarnation of the actor. Where no reply comes (a
link is down, the actor is made anew) the same exchange is tried again until there is one: from the
same incarnation, then nothing is lost and nothing was done twice; or from another one, then what
ran there is gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from server.cluster.messages import Reply
from server.cluster.remote_child import RemoteChild
from server.ipc.messages import GatewayReport, Joined

log = logging.getLogger("cluster")

WAIT_S = 0.05
"""How long an actor waits for something to say, at most: so late it hears what it is to do."""

AGAIN_S = 0.5
"""Before the next try, where the actor is not there."""

SILENT_S = 5.0
"""An actor whose newest reply is older does not answer."""

KILLED = -9
"""The exit code of what ended with its actor."""


class ActorAway(Exception):
    """The actor is dead, or does not answer; Ray makes it anew."""


class ActorLink:
    """Orders to an actor, and what it says to the children that it runs."""

    def __init__(
        self,
        name: str,
        exchange: Callable[[str, int, Sequence[Any], float], Reply],
        made: Callable[[int], Sequence[Any]],
        heard: Callable[[Reply], Sequence[Any]],
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        """`name`: of the actor, for people. `exchange`: as ProcessHost.exchange; raises ActorAway.
        `made`: called when the actor was made, for the n-th time from 0, for what it must be told
        first. `heard`: called with each reply, for more to tell. `lost`: called when it is known to
        be gone, before its children are."""
        self.name = name
        self.children: dict[str, RemoteChild] = {}
        self.host = ""
        """Where it runs, once it has answered."""
        self.error = ""
        """The newest of the actor's."""
        self._exchange = exchange
        self._made, self._heard, self._lost = made, heard, lost
        self._incarnation = ""
        self._times = -1
        self._heard_at = 0.0
        self._queue: list[Any] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to exchange."""
        self._thread.start()

    def order(self, order: Any) -> None:
        """Have the actor do something, after what it was told before."""
        with self._lock:
            self._queue.append(order)

    @property
    def answers(self) -> bool:
        """Whether it has answered of late."""
        return bool(self._incarnation) and time.monotonic() - self._heard_at < SILENT_S

    def close(self) -> None:
        """Exchange no more."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _run(self) -> None:
        first: Sequence[Any] = ()
        number = 0
        orders: list[Any] | None = None
        away = False
        while not self._closing.is_set():
            if orders is None:  # else they are tried again
                orders = [*first, *self._orders()] if self._incarnation else []
            try:
                reply = self._exchange(self._incarnation, number, orders, WAIT_S)
            except ActorAway as error:
                if not away and self._incarnation:
                    log.error("%s does not answer: %s; it is asked again", self.name, error)
                away = True
                self._closing.wait(AGAIN_S)
                continue
            orders = None
            self._heard_at = time.monotonic()
            if reply.incarnation != self._incarnation:
                if self._incarnation:
                    log.error("%s is gone, and was made anew on %s", self.name, reply.host)
                    self._lose()
                self._incarnation, self.host = reply.incarnation, reply.host
                self._times += 1
                number, away = 0, False
                first = self._made(self._times)
                continue
            if away:
                log.info("%s answers again", self.name)
                away = False
            number += 1
            self._pass_on(reply)
            first = self._heard(reply)
            for name, generation, code in reply.ended:
                if name in self.children:
                    self.children[name].ended(generation, code)

    def _orders(self) -> list[Any]:
        # Messages first: whatever they go by was ordered before they were sent.
        said = [each for child in list(self.children.values()) for each in child.said()]
        with self._lock:
            queue, self._queue = self._queue, []
        return [*queue, *said]

    def _lose(self) -> None:
        self._lost()
        for child in self.children.values():
            child.ended(None, KILLED)

    def _pass_on(self, reply: Reply) -> None:
        if reply.error:
            self.error = reply.error
            log.error("%s: %s", self.name, reply.error)
        ahead = time.monotonic() - reply.now
        for name, generation, message in reply.messages:
            if name in self.children:
                if isinstance(message, GatewayReport | Joined):  # their clock is another machine's
                    message = replace(message, time=message.time + ahead)
                self.children[name].hear(generation, message)
        for name, (generation, pid, beats) in reply.beats.items():
            if name in self.children:
                self.children[name].lives(generation, pid, beats)
