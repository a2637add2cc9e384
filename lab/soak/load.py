"""The load of a soak: games that play as fast as they are answered and stay, and visitors who come
and go all the time, in every manner. A process of its own; it costs as little as the bench's.
"""

from __future__ import annotations

import random
import select
import socket
import struct
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

import msgspec
import numpy as np
import numpy.typing as npt

from lab.load.generator import _Game
from lab.soak.judge import bins
from protocol import codec
from protocol.framing import framed
from protocol.messages import Bye, HelloFields, Welcome
from protocol.spaces import GameSpec

WAIT_S = 60.0
"""For any answer at all."""

LEAVES = ("bye", "closes", "resets", "in the middle of a frame", "was never let in")
"""How a visit ends, each as often as the others. Who is never let in proposes another game."""


@dataclass(frozen=True)
class Second:
    """What the clients saw in a second, or however long one is."""

    seconds: float
    histogram: npt.NDArray[np.int64]
    """Of the answer times of those that stay (lab.soak.judge.bins)."""
    visits: int
    """That ended."""


class _Visitor(_Game):
    """A game that recommends nothing, and leaves after a while."""

    def __init__(
        self, address: tuple[str, int], spec: GameSpec, rng: np.random.Generator, how: str,
        until: float,
    ) -> None:  # fmt: skip
        super().__init__(address, spec, rng)
        self.how, self.until = how, until
        self.welcomed = False
        obs = rng.standard_normal(spec.observation_size, dtype=np.float32).tobytes()
        parts = (2, 0, 2**32 - 1, obs, 0.5, 0, None, None)
        self.message = bytearray(framed(msgspec.msgpack.encode(parts)))
        fields = HelloFields(
            protocol=1,
            client="visitor/1",
            game="another" if how == LEAVES[-1] else spec.game,
            observation=spec.observation,
            actions=spec.actions,
        )
        self.sock.sendall(codec.encode_hello(fields))

    def let_in(self, answer: bytes) -> None:
        """Errors: RuntimeError if this is no WELCOME."""
        message = codec.decode_server(answer[4:])
        if type(message) is not Welcome:
            raise RuntimeError(f"expected WELCOME, got {message}")
        self.welcomed = True

    def leave(self) -> None:
        """Be gone, as this one goes."""
        match self.how:
            case "bye":
                self.sock.send(codec.encode(Bye()))
            case "resets":
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case "in the middle of a frame":
                self.sock.send(self.message[:100])
        self.sock.close()


class _Load:
    """All clients in one loop."""

    def __init__(
        self, pipe: Pipe, address: tuple[str, int], spec: GameSpec, stay_s: float, every_s: float,
        seed: int,
    ) -> None:  # fmt: skip
        self._pipe, self._address, self._spec = pipe, address, spec
        self._stay_s, self._every_s = stay_s, every_s
        self._rng, self._chance = np.random.default_rng(seed), random.Random(seed)
        self._poll = select.epoll()
        self._poll.register(pipe.fileno(), select.EPOLLIN)
        self._games: dict[int, _Game] = {}
        self._visitors: dict[int, _Visitor] = {}
        self._visits = 0

    def play(self, clients: int, visitors: int) -> None:
        """Until the pipe's other end is closed. Errors: RuntimeError, ConnectionError for an answer
        that is none, TimeoutError where nothing is answered."""
        clock = time.perf_counter
        for _ in range(clients):
            game = _Game(self._address, self._spec, self._rng)
            game.hello(self._spec)
            self._add(game, self._games)
        for _ in range(visitors):
            self._come()
        for game in self._games.values():
            game.send(clock())
        latencies: list[float] = []
        begin = heard = clock()
        games, visiting = self._games, self._visitors
        while True:
            events = self._poll.poll(self._every_s)
            for file, _ in events:
                if (game := games.get(file)) is not None:  # type: ignore[assignment]
                    answer = game.sock.recv(4096)
                    if not answer:
                        raise ConnectionError("a game that plays by the rules was disconnected")
                    game.check(answer)
                    now = clock()
                    latencies.append(now - game.sent_at)
                    game.send(now)
                elif (visitor := visiting.get(file)) is not None:
                    self._visited(visitor)
                else:
                    return  # the pipe: it is over
            now = clock()
            if events:
                heard = now
            elif now - heard > WAIT_S:
                raise TimeoutError(f"expected an answer within {WAIT_S:g} s, got none")
            if now - begin >= self._every_s:
                for visitor in [each for each in visiting.values() if each.until <= now]:
                    self._next(visitor)
                self._pipe.send(Second(now - begin, bins(np.array(latencies)), self._visits))
                latencies.clear()
                begin, self._visits = now, 0

    def close(self) -> None:
        """Nobody is connected any more."""
        for game in [*self._games.values(), *self._visitors.values()]:
            game.sock.close()
        self._poll.close()

    def _add(self, game: _Game, to: dict[int, _Game] | dict[int, _Visitor]) -> None:
        game.sock.setblocking(False)
        to[game.sock.fileno()] = game  # type: ignore[assignment]
        self._poll.register(game.sock, select.EPOLLIN)

    def _come(self) -> None:
        until = time.perf_counter() + self._stay_s * self._chance.uniform(0.5, 1.5)
        how = self._chance.choice(LEAVES)
        self._add(_Visitor(self._address, self._spec, self._rng, how, until), self._visitors)

    def _next(self, visitor: _Visitor) -> None:
        """One goes and another comes."""
        del self._visitors[visitor.sock.fileno()]
        self._poll.unregister(visitor.sock)
        visitor.leave()
        self._visits += 1
        self._come()

    def _visited(self, visitor: _Visitor) -> None:
        """A visitor has got something: WELCOME, an answer, or an error and the end."""
        try:
            answer = visitor.sock.recv(4096)
        except ConnectionError:
            answer = b""
        now = time.perf_counter()
        if not answer:
            if visitor.how != LEAVES[-1]:
                raise ConnectionError(
                    f"a visitor was disconnected before it left; welcomed: {visitor.welcomed}, "
                    f"frames: {visitor.seq}"
                )
            self._next(visitor)
        elif visitor.how == LEAVES[-1]:
            return  # it is told why
        elif now >= visitor.until:
            self._next(visitor)
        else:
            visitor.let_in(answer) if not visitor.welcomed else visitor.check(answer)
            visitor.send(now)


def play(
    pipe: Pipe, address: tuple[str, int], spec: GameSpec, clients: int, visitors: int,
    stay_s: float, every_s: float, seed: int,
) -> None:  # fmt: skip
    """The process's entry: sends a `Second` each `every_s`, or the exception that ended it.
    Visitors stay for `stay_s`, one half of that more or less."""
    load = _Load(pipe, address, spec, stay_s, every_s, seed)
    try:
        load.play(clients, visitors)
    except (BrokenPipeError, EOFError):
        return
    except Exception as error:
        pipe.send(error)
    finally:
        load.close()
