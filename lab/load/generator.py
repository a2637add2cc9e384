"""The load of the serving bench: clients in lock step, each of which sends when it was answered."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

import numpy as np

from lab.load.clients import LoadClient, PreparedClient, TempestClient, close_all, slots_client
from lab.load.loop import LoadLoop
from lab.load.pacing import ClosedLoop, percentiles_ms
from protocol.spaces import GameSpec

SILENCE_S = 5.0
"""Without any answer for so long, a measurement fails."""


@dataclass(frozen=True)
class LoadResult:
    """What the clients saw."""

    frames: int
    seconds: float
    fps: float
    p50_ms: float
    p99_ms: float
    worst_gap_ms: float
    """The longest time in which no client got an answer."""
    sent: int
    """Frames sent in all, before the measurement too."""
    frame_us: float = math.nan
    """Processor time of the server's process for each of these, where the caller knows it."""


def run_load(
    address: tuple[str, int],
    spec: GameSpec,
    clients: int,
    seconds: float,
    *,
    slots: int = 1,
    warmup_s: float = 1.0,
    handshake: bool = True,
    tempest: bool = False,
) -> LoadResult:
    """Play `clients` games for `seconds` after `warmup_s`. Without `handshake` any answer of any
    server counts as one. `slots`: of each game, whose frames go together; `frames` and `fps` count
    them all. `tempest`: in the older format of Tempest's clients.

    Errors: OSError, RuntimeError, TimeoutError.
    """
    rng = np.random.default_rng(0)
    prepared = slots_client(slots) if slots > 1 else PreparedClient
    kind = TempestClient if tempest else prepared
    games: list[LoadClient] = [
        kind(address, spec, rng, checks_answers=handshake) for _ in range(clients)
    ]
    loop = LoadLoop()
    try:
        if handshake:
            for game in games:
                game.hello()
        closed = ClosedLoop(loop, games)
        begin = time.perf_counter() + warmup_s
        closed.start()
        loop.run(until=begin + seconds, silence_s=SILENCE_S)
    finally:
        close_all(games)
        loop.close()
    arrivals, latencies = np.array(closed.arrivals), np.array(closed.latencies)
    measured = arrivals >= begin
    if not measured.any():
        raise TimeoutError(
            f"expected answers within {warmup_s + seconds:g} s, got none; measure for longer, or "
            "on a machine with less other work"
        )
    frames = int(measured.sum()) * slots
    took = float(arrivals[-1]) - begin
    p50, p99 = percentiles_ms(latencies[measured])
    worst = float(np.diff(arrivals[measured]).max(initial=0.0)) * 1e3
    sent = sum(game.seq for game in games) * slots
    return LoadResult(frames, took, frames / took, p50, p99, worst, sent)


def load_process(pipe: Pipe, *args: Any, **kwargs: Any) -> None:
    """`run_load` as a process's entry; sends its result, or the exception."""
    try:
        pipe.send(run_load(*args, **kwargs))
    except Exception as error:
        pipe.send(error)
