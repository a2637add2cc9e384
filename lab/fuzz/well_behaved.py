"""Games of both formats that play by the rules at an even pace, and how long their answers take."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

import numpy as np

from lab.load.clients import LoadClient, PreparedClient, TempestClient, close_all
from lab.load.loop import LoadLoop
from lab.load.pacing import FixedRate, percentiles_ms
from protocol.tempest import tempest_spec

SPEC = tempest_spec(195, "continuous")
"""The run's game: what clients of both formats can play."""

GAMES, OLDER_GAMES = 24, 8
"""Games that play by the rules, by format."""

PACE_HZ = 60.0
"""Frames of each in a second. With so many that is a server under load: the network is asked about
2,000 frames a second, few of which arrive together."""


@dataclass(frozen=True)
class AnswerTimes:
    """Of a stretch of time."""

    frames: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Measure:
    """A request: forget the answers so far, and answer after so many seconds with the new ones;
    with None at once, and let `Measured` ask for them."""

    seconds: float | None = None


@dataclass(frozen=True)
class Measured:
    """A request: the `AnswerTimes` since `Measure`."""


@dataclass(frozen=True)
class End:
    """A request: disconnect and end."""


def play(pipe: Pipe, ports: tuple[int, int]) -> None:
    """The games' process: connects, tells so, and plays while it answers requests, until `End` or
    the end of the pipe; or sends the exception that ended it. ports: of the protocol, and of the
    older format."""
    games: list[LoadClient] = []
    try:
        rng = np.random.default_rng(0)
        for number in range(GAMES + OLDER_GAMES):
            if number < GAMES:
                game: LoadClient = PreparedClient(("127.0.0.1", ports[0]), SPEC, rng, name="fair/1")
            else:
                game = TempestClient(("127.0.0.1", ports[1]), SPEC, rng)
            games.append(game)
            game.hello()
        pipe.send("playing")
        _Paced(pipe, games).run()
    except EOFError:
        return
    except Exception as error:
        pipe.send(error)
    finally:
        close_all(games)


class _Paced:
    """The games in their loop."""

    def __init__(self, pipe: Pipe, games: list[LoadClient]) -> None:
        self._pipe = pipe
        self._loop = LoadLoop()
        self._loop.on_readable(pipe, self._requested)
        self._rate = FixedRate(self._loop, games, PACE_HZ)
        self._measured_at = math.inf

    def run(self) -> None:
        try:
            self._loop.run(self._due)
        finally:
            self._loop.close()

    def _due(self, now: float) -> float:
        if now >= self._measured_at:
            self._measured_at = math.inf
            self._pipe.send(self._answer_times())
        return min(self._rate.due(now), self._measured_at)

    def _requested(self) -> None:
        request: Any = self._pipe.recv()
        match request:
            case Measure(seconds):
                self._rate.latencies.clear()
                if seconds is None:
                    self._pipe.send("measuring")
                else:
                    self._measured_at = time.perf_counter() + seconds
            case Measured():
                self._pipe.send(self._answer_times())
            case End():
                self._pipe.send("ended")
                self._loop.stop()

    def _answer_times(self) -> AnswerTimes:
        p50, p99 = percentiles_ms(self._rate.latencies)
        return AnswerTimes(len(self._rate.latencies), round(p50, 3), round(p99, 3))
