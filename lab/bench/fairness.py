"""Bench of fairness: a thousand clients at an equal pace, in total half of what the server can do.
Does any of them starve?

What the server can do is measured first, with the same connections, each sending its next frame
when its answer came. Then every client has a tick, as a game has that runs at so many frames a
second. A client without an answer at its next tick sends late; one without an answer a tick later
has lost one. What counts is how many of its ticks each got an answer to.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from statistics import median
from typing import Any

import numpy as np

from lab.bench.serving import bench_server
from lab.load.clients import LoadClient, PreparedClient, bench_spec, close_all
from lab.load.loop import LoadLoop
from lab.load.pacing import ClosedLoop, FixedRate, percentiles_ms
from lab.load.process import LoadProcess
from lab.supervised import updates_made
from protocol.spaces import GameSpec
from server.net.open_files import allow_open_files
from server.supervisor.supervisor import Supervisor

CLIENTS = 1000

FREE_S, PACED_S = 4.0, 20.0
"""How long each of the two is measured."""

SHARE = 0.5
"""Of what the server can do."""

WORST = 0.9
"""The worst client's rate, of that of the median: at least. And the median's, of the pace."""

SPARE_FILES = 64

WAIT_S = 60.0
"""For an answer, at full speed."""


@dataclass(frozen=True)
class PacedResult:
    """What clients with a tick saw."""

    hz: float
    """The pace of each."""
    ticks: int
    """Of each, in all."""
    answered: list[int]
    """Of those, for each client."""
    p50_ms: float
    """From a frame's sending to its answer."""
    p99_ms: float
    late_p99_ms: float
    """How much too late this process sent those for which nothing was to be waited for: large where
    it is the load that cannot keep the pace."""

    def rates(self) -> tuple[float, float]:
        """The median client's and the worst one's, in frames a second."""
        per_tick = self.hz / self.ticks
        return median(self.answered) * per_tick, min(self.answered) * per_tick


class ClientPool:
    """Many connections of one process, that play one measurement after the other."""

    def __init__(self, address: tuple[str, int], spec: GameSpec, clients: int) -> None:
        """Connect, and shake hands. Errors: OSError where so many files cannot be open."""
        wanted = clients + SPARE_FILES
        if (most := allow_open_files(wanted)) < wanted:
            raise OSError(
                f"expected to be allowed {wanted} open files, got {most}; raise ulimit -n"
            )
        rng = np.random.default_rng(0)
        self._loop = LoadLoop()
        self._clients: list[LoadClient] = []
        for _ in range(clients):  # one by one: the server gives each but so long for its HELLO
            client = PreparedClient(address, spec, rng)
            self._clients.append(client)
            client.hello()

    def close(self) -> None:
        close_all(self._clients)
        self._loop.close()

    def full_speed(self, seconds: float) -> float:
        """Everybody as fast as it is answered; frames a second. Ends when nobody is waiting."""
        closed = ClosedLoop(self._loop, self._clients)
        until = time.perf_counter() + seconds
        closed.start()
        self._loop.run(until=until, silence_s=WAIT_S)
        closed.drain(silence_s=WAIT_S)
        return sum(at < until for at in closed.arrivals) / seconds

    def paced(self, hz: float, seconds: float) -> PacedResult:
        """Everybody at its tick, `hz` frames a second."""
        ticks = max(1, round(seconds * hz))
        rate = FixedRate(self._loop, self._clients, hz, ticks)
        self._loop.run(rate.due, until=rate.end)
        p50, p99 = percentiles_ms(rate.latencies)
        return PacedResult(hz, ticks, rate.answered, p50, p99, percentiles_ms(rate.late)[1])


def judge(paced: PacedResult) -> list[str]:
    """What is broken, in words."""
    middle, worst = paced.rates()
    broken = []
    if not worst >= WORST * middle:
        broken.append(
            f"expected the worst client's rate to be at least {WORST:g} of the median "
            f"({middle:.2f} frames/s), got {worst:.2f}"
        )
    if not middle >= WORST * paced.hz:
        broken.append(
            f"expected the clients to get their pace of {paced.hz:.2f} frames/s each, the median "
            f"got {middle:.2f}"
        )
    return broken


def measure(
    *,
    clients: int = CLIENTS,
    free_s: float = FREE_S,
    paced_s: float = PACED_S,
    share: float = SHARE,
    observations: int = 195,
    actions: int = 44,
    config: dict[str, Any] | None = None,
    show: Callable[[str], None] = print,
) -> dict[str, Any]:
    """A row to print. `config`: settings over the preset `bench`. `share`: of what the server can
    do, that all together are to send."""
    spec = bench_spec(observations, actions)
    room = {"server.max_clients": max(1024, clients + SPARE_FILES)}
    with (
        bench_server(room | (config or {})) as server,
        LoadProcess(pool_process, ("127.0.0.1", server.port), spec, clients) as load,
    ):

        def ask(*message: Any) -> Any:
            return load.ask(message, meanwhile=lambda: server.poll(0.1))

        show(f"fairness, {clients} clients connect")
        ask("begin")
        _until_it_trains(server, ask)
        show("fairness, at full speed")
        capacity: float = ask("full_speed", free_s)
        hz = share * capacity / clients
        show(f"fairness, each at {hz:.2f} frames/s")
        before, since = updates_made(server), time.monotonic()
        paced: PacedResult = ask("paced", hz, paced_s)
        updates = (updates_made(server) - before) / (time.monotonic() - since)
    middle, worst = paced.rates()
    broken = judge(paced)
    if not updates > 0:
        broken.append("expected the trainer to train meanwhile, it made no update")
    return {
        "case": "fairness",
        "clients": clients,
        "training": True,
        "capacity_fps": round(capacity),
        "share": share,
        "pace_hz": round(hz, 3),
        "ticks": paced.ticks,
        "fps": round(sum(paced.answered) / paced.ticks * hz),
        "median_hz": round(middle, 3),
        "worst_hz": round(worst, 3),
        "worst_of_median": round(worst / middle, 3) if middle else 0.0,
        "p50_ms": round(paced.p50_ms, 2),
        "p99_ms": round(paced.p99_ms, 2),
        "late_p99_ms": round(paced.late_p99_ms, 2),
        "updates_per_s": round(updates, 2),
        "broken": broken,
        "ok": not broken,
    }


def pool_process(pipe: Pipe, address: tuple[str, int], spec: GameSpec, clients: int) -> None:
    """The clients as a process's entry: does what it is told, and answers; or sends the exception
    that ended it."""
    pool: ClientPool | None = None
    try:
        while True:
            match pipe.recv():
                case ("begin",):
                    pool = ClientPool(address, spec, clients)
                    pipe.send(clients)
                case (str() as what, *args):
                    pipe.send(getattr(pool, what)(*args))
    except EOFError:
        return
    except Exception as error:
        pipe.send(error)
    finally:
        if pool is not None:
            pool.close()


def _until_it_trains(server: Supervisor, ask: Callable[..., Any]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not updates_made(server):
        ask("full_speed", 0.5)
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected an update within {WAIT_S:g} s, the trainer made none")
