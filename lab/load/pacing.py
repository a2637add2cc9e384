"""When clients send: as soon as they are answered, or at a fixed rate."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from lab.load.clients import LoadClient
from lab.load.loop import LoadLoop


class ClosedLoop:
    """Every client sends its next frame when its answer came."""

    def __init__(self, loop: LoadLoop, clients: Sequence[LoadClient]) -> None:
        self.latencies: list[float] = []
        """Seconds from each frame to its answer, in the order of the answers."""
        self.arrivals: list[float] = []
        """When each of these answers came."""
        self._loop, self._clients = loop, clients
        self._draining = False
        self._waiting = 0
        for client in clients:
            client.sock.setblocking(False)
            loop.on_readable(client.sock, partial(self._answered, client))

    def start(self) -> None:
        """Send everybody's first frame."""
        self._draining, self._waiting = False, len(self._clients)
        for client in self._clients:
            client.send(time.perf_counter())

    def clear(self) -> None:
        """Forget the answers so far."""
        self.latencies.clear()
        self.arrivals.clear()

    def drain(self, *, silence_s: float) -> None:
        """Wait until everybody was answered, and send nothing more. Errors: TimeoutError."""
        self._draining = True
        self._loop.run(silence_s=silence_s)

    def _answered(self, client: LoadClient) -> None:
        client.receive()
        now = time.perf_counter()
        self.latencies.append(now - client.sent_at)
        self.arrivals.append(now)
        if not self._draining:
            client.send(now)
            return
        self._waiting -= 1
        if not self._waiting:
            self._loop.stop()


class FixedRate:
    """Every client has a tick `hz` times a second, each a little after that of the client before
    it, and sends a frame at each.

    A client that has no answer yet when its tick comes sends late, when the answer comes; at the
    ticks after that one it sends nothing.
    """

    def __init__(
        self, loop: LoadLoop, clients: Sequence[LoadClient], hz: float, ticks: int | None = None
    ) -> None:
        """ticks: of each client; None for no end. The first is now."""
        self.latencies: list[float] = []
        """Seconds from each frame to its answer."""
        self.late: list[float] = []
        """Seconds by which this process was late with a frame for which nothing was to be waited
        for."""
        self.answered = [0] * len(clients)
        """Frames of each client that were answered."""
        self._clients = clients
        self._gap = 1 / (hz * len(clients))
        self._ticks = math.inf if ticks is None else ticks * len(clients)
        self._tick = 0
        """The next one, of all clients."""
        self._begin = time.perf_counter()
        # The last ones have as long for their answers as all others: until their next tick.
        self.end = self._begin + (self._ticks + len(clients)) * self._gap
        """When the last client's time for its last answer is over."""
        self._waiting = [False] * len(clients)
        self._owing = [False] * len(clients)
        for number, client in enumerate(clients):
            client.sock.setblocking(False)
            loop.on_readable(client.sock, partial(self._answered, number))

    def due(self, now: float) -> float:
        """Send what is due; when the next frame is."""
        while self._tick < self._ticks and (at := self._begin + self._tick * self._gap) <= now:
            number = self._tick % len(self._clients)
            if self._waiting[number]:
                self._owing[number] = True
            else:
                self._waiting[number] = True
                self.late.append(now - at)
                self._clients[number].send(time.perf_counter())
            self._tick += 1
        return math.inf if self._tick >= self._ticks else self._begin + self._tick * self._gap

    def _answered(self, number: int) -> None:
        client = self._clients[number]
        client.receive()
        now = time.perf_counter()
        self.latencies.append(now - client.sent_at)
        self.answered[number] += 1
        if self._owing[number]:
            self._owing[number] = False
            client.send(now)
        else:
            self._waiting[number] = False


def percentiles_ms(seconds: Sequence[float] | npt.NDArray[np.float64]) -> tuple[float, float]:
    """The median and the 99th percentile of times, in ms; 0 where there are none."""
    if not len(seconds):
        return 0.0, 0.0
    p50, p99 = (np.percentile(seconds, [50, 99]) * 1e3).tolist()
    return p50, p99
