"""The load of a soak: games that play as fast as they are answered and stay, and visitors who come
and go all the time, in every manner. A process of its own.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection as Pipe

import numpy as np
import numpy.typing as npt

from lab.load.clients import PreparedClient, close_all
from lab.load.loop import LoadLoop
from lab.load.pacing import ClosedLoop
from lab.soak.judge import bins
from protocol import codec
from protocol.framing import LENGTH_BYTES
from protocol.messages import Bye
from protocol.spaces import GameSpec

WAIT_S = 60.0
"""For any answer at all."""

UNWELCOME = "was never let in"
LEAVES = ("bye", "closes", "resets", "in the middle of a frame", UNWELCOME)
"""How a visit ends, each as often as the others. One that is never let in proposes another game."""


@dataclass(frozen=True)
class Second:
    """What the clients saw in a second, or however long one is."""

    seconds: float
    histogram: npt.NDArray[np.int64]
    """Of the answer times of those that stay (lab.soak.judge.bins)."""
    visits: int
    """That ended."""


class Visitor(PreparedClient):
    """A game that recommends nothing, and leaves after a while."""

    def __init__(
        self, address: tuple[str, int], spec: GameSpec, rng: np.random.Generator, how: str,
        until: float,
    ) -> None:  # fmt: skip
        """how: it leaves, of `LEAVES`. until: the time of `time.perf_counter` when it does."""
        if how == UNWELCOME:
            spec = GameSpec("another", spec.observation, spec.actions, spec.rewards)
        super().__init__(address, spec, rng, name="visitor/1", recommends=False)
        self.how, self.until = how, until
        self.welcomed = False
        self.send_hello()
        self.sock.setblocking(False)

    def come_in(self) -> bool:
        """Read what has come, WELCOME first. Whether the connection is still there; one that is not
        let in does not read why. Errors: ConnectionError where it ends before its time;
        RuntimeError for what is no answer."""
        try:
            answer = self.sock.recv(4096)
        except ConnectionError:
            answer = b""
        if not answer and self.how != UNWELCOME:
            raise ConnectionError(
                f"a visitor was disconnected before it left; welcomed: {self.welcomed}, "
                f"frames: {self.seq}"
            )
        if self.how != UNWELCOME and time.perf_counter() < self.until:
            if self.welcomed:
                self.check(answer)
            else:
                self.check_welcome(answer[LENGTH_BYTES:])
                self.welcomed = True
        return bool(answer)

    def leave(self) -> None:
        """Be gone, as this one goes."""
        match self.how:
            case "bye":
                self.sock.send(codec.encode(Bye()))
            case "resets":
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case "in the middle of a frame":
                self.sock.send(self.frame[:100])
        self.sock.close()


class SoakLoad:
    """All clients in one loop, which ends when the other end of the pipe is closed."""

    def __init__(
        self, pipe: Pipe, address: tuple[str, int], spec: GameSpec, stay_s: float, every_s: float,
        seed: int,
    ) -> None:  # fmt: skip
        self._pipe, self._address, self._spec = pipe, address, spec
        self._stay_s, self._every_s = stay_s, every_s
        self._rng, self._chance = np.random.default_rng(seed), random.Random(seed)
        self._loop = LoadLoop()
        self._loop.on_readable(pipe, self._loop.stop)
        self._games: list[PreparedClient] = []
        self._visitors: set[Visitor] = set()
        self._visits = 0
        self._begin = 0.0
        """Of the second that is counted."""

    def play(self, clients: int, visitors: int) -> None:
        """Send a `Second` each `every_s`. Errors: RuntimeError, ConnectionError for an answer that
        is none; TimeoutError where nothing is answered; BrokenPipeError."""
        for _ in range(clients):
            game = PreparedClient(self._address, self._spec, self._rng)
            self._games.append(game)
            game.hello()
        self._closed = ClosedLoop(self._loop, self._games)
        for _ in range(visitors):
            self._come()
        self._closed.start()
        self._begin = time.perf_counter()
        self._loop.run(self._due, silence_s=WAIT_S)

    def close(self) -> None:
        """Nobody is connected any more."""
        close_all([*self._games, *self._visitors])
        self._loop.close()

    def _due(self, now: float) -> float:
        """At the end of a second: visitors leave, and what was seen is sent."""
        if now - self._begin >= self._every_s:
            for visitor in [each for each in self._visitors if each.until <= now]:
                self._replace(visitor)
            latencies = np.array(self._closed.latencies)
            self._pipe.send(Second(now - self._begin, bins(latencies), self._visits))
            self._closed.clear()
            self._begin, self._visits = now, 0
        return self._begin + self._every_s

    def _come(self) -> None:
        until = time.perf_counter() + self._stay_s * self._chance.uniform(0.5, 1.5)
        how = self._chance.choice(LEAVES)
        visitor = Visitor(self._address, self._spec, self._rng, how, until)
        self._visitors.add(visitor)
        self._loop.on_readable(visitor.sock, partial(self._visited, visitor))

    def _replace(self, visitor: Visitor) -> None:
        """One goes and another comes."""
        self._visitors.remove(visitor)
        self._loop.remove(visitor.sock)
        visitor.leave()
        self._visits += 1
        self._come()

    def _visited(self, visitor: Visitor) -> None:
        """A visitor has got something: WELCOME, an answer, or an error and the end."""
        there, now = visitor.come_in(), time.perf_counter()
        if visitor.how == UNWELCOME:
            if not there:
                self._replace(visitor)
        elif now >= visitor.until:
            self._replace(visitor)
        else:
            visitor.send(now)


def play(
    pipe: Pipe, address: tuple[str, int], spec: GameSpec, clients: int, visitors: int,
    stay_s: float, every_s: float, seed: int,
) -> None:  # fmt: skip
    """The process's entry: sends a `Second` each `every_s`, or the exception that ended it.
    Visitors stay for `stay_s`, one half of that more or less."""
    load = SoakLoad(pipe, address, spec, stay_s, every_s, seed)
    try:
        load.play(clients, visitors)
    except (BrokenPipeError, EOFError):
        return
    except Exception as error:
        pipe.send(error)
    finally:
        load.close()
