"""Bench: what a client sees of the server while nobody trains, while something unrelated computes,
and while the trainer trains.

All is measured in rounds that follow each other closely, and compared within a round: machines are
shared and drift. Medians over the rounds are reported.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from statistics import median
from typing import Any, cast

import torch
import uvloop

from lab.load.clients import bench_spec, frame_bytes
from lab.load.generator import LoadResult, load_process
from lab.load.process import LoadProcess
from lab.supervised import supervised
from protocol.spaces import GameSpec
from server.supervisor.supervisor import Supervisor

MATRIX = (8192, 256, 256)
"""The unrelated computation, and the calibration: rows, columns, columns."""

REPLY_BYTES = 22
"""About the size of an ACTION."""

TEMPEST = {
    "tempest.port": 0,
    "expert.plugin": "server.gateway.tempest_expert:recommend",
    "reward.weights": {"objective": 0.01, "subjective": 0.005},
    "reward.clip": 10.0,
}
"""Settings of the case with older clients."""

_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Load:
    """What the clients of a measurement do."""

    spec: GameSpec
    clients: int
    seconds: float
    tempest: bool


@dataclass
class Round:
    """What one round measured."""

    echo: LoadResult
    alone: LoadResult
    beside: LoadResult
    training: LoadResult
    updates_per_s: float
    """While serving."""
    updates_per_s_alone: float
    """By the same trainer when the games have gone."""
    checkpoint: LoadResult
    """Serving and training while checkpoints are written one after the other."""
    checkpoints: int


@dataclass
class Serving:
    """All rounds of one setting."""

    clients: int
    case: str = "serving"
    rounds: list[Round] = field(default_factory=list)

    def of(self, pick: Callable[[Round], float]) -> float:
        """The median over the rounds."""
        return median(pick(r) for r in self.rounds)

    def rows(self, parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The result as rows to print. The first with `"training": true` is the headline."""
        base = {"case": self.case, "clients": self.clients, **parameters}
        echo = round(self.of(lambda r: r.echo.fps))
        yield base | {"training": True} | self._columns(lambda r: r.training) | {
            "updates_per_s": round(self.of(lambda r: r.updates_per_s), 2),
            "samples_per_s": round(
                self.of(lambda r: r.updates_per_s) * parameters["batch_size"]
            ),
            "echo_fps": echo,
            "fps_of_echo": round(self.of(lambda r: r.training.fps / r.echo.fps), 3),
            "fps_of_beside_matmul": round(self.of(lambda r: r.training.fps / r.beside.fps), 3),
            "updates_per_s_alone": round(self.of(lambda r: r.updates_per_s_alone), 2),
            "updates_of_alone": round(
                self.of(lambda r: r.updates_per_s / r.updates_per_s_alone), 3
            ),
        }  # fmt: skip
        yield base | {"training": False} | self._columns(lambda r: r.alone) | {
            "echo_fps": echo,
            "fps_of_echo": round(self.of(lambda r: r.alone.fps / r.echo.fps), 3),
        }  # fmt: skip
        yield base | {"training": False, "beside": "matmul"} | self._columns(lambda r: r.beside)
        yield base | {"case": "checkpoint", "training": True} | self._columns(
            lambda r: r.checkpoint
        ) | {"checkpoints": sum(r.checkpoints for r in self.rounds)}  # fmt: skip

    def _columns(self, pick: Callable[[Round], LoadResult]) -> dict[str, float]:
        return {
            "fps": round(self.of(lambda r: pick(r).fps)),
            "p50_ms": round(self.of(lambda r: pick(r).p50_ms), 2),
            "p99_ms": round(self.of(lambda r: pick(r).p99_ms), 2),
            "worst_gap_ms": round(max(pick(r).worst_gap_ms for r in self.rounds), 1),
        }


def measure(
    clients: int,
    observations: int,
    actions: int,
    *,
    seconds: float,
    rounds: int,
    config: dict[str, Any],
    show: Callable[[str], None],
    tempest: bool = False,
) -> Serving:
    """Run all rounds. `config` holds settings over the preset `bench`. `tempest`: clients send the
    older format, to a game of two heads of which the server's own expert recommends actions."""
    spec = bench_spec(observations, actions)
    out = Serving(clients, "tempest" if tempest else "serving")
    load = Load(spec, clients, seconds, tempest)
    config = (TEMPEST if tempest else {}) | config
    for number in range(rounds):
        show(f"{out.case}, {clients} clients, round {number + 1} of {rounds}")
        with echo_server(frame_bytes(spec, tempest=tempest)) as port:
            echo = _play(load, port, handshake=False)
        with bench_server(config | {"trainer.enabled": False}) as server:
            alone = _play(load, _port(server), server)
            with _matrix_computation():
                beside = _play(load, _port(server), server)
        with bench_server(config) as server:
            training, busy = _while_training(server, load)
            checkpoint, count = _while_saving(server, load)
            free = _updates_per_s(server, seconds)
        out.rounds.append(Round(echo, alone, beside, training, busy, free, checkpoint, count))
    return out


def _port(server: Supervisor) -> int:
    """Where the bench's clients connect."""
    return server.port if server.tempest_port is None else server.tempest_port


def _while_training(server: Supervisor, load: Load) -> tuple[LoadResult, float]:
    """What clients see, and the updates a second meanwhile."""
    points: list[tuple[float, float]] = []

    def meanwhile() -> None:
        server.poll(0.1)
        if server.row.get("updates", 0) > 0 and (not points or points[-1][0] != server.row["time"]):
            points.append((server.row["time"], server.row["updates"]))

    with _start_load(load, _port(server), warmup_s=2.0) as process:
        result: LoadResult = process.receive(meanwhile=meanwhile)
    # The last interval may lie behind the end of the load, the first ones are the warm-up.
    points = points[2:-1]
    (t0, u0), (t1, u1) = points[0], points[-1]
    return result, (u1 - u0) / (t1 - t0)


def _while_saving(server: Supervisor, load: Load) -> tuple[LoadResult, int]:
    """What clients see while one checkpoint after the other is written."""
    count = 0

    def meanwhile() -> None:
        nonlocal count
        server.trainer.checkpoint()
        count += 1
        server.poll(0.2)

    with _start_load(load, _port(server), warmup_s=0.5) as process:
        result: LoadResult = process.receive(meanwhile=meanwhile)
    return result, count


def _updates_per_s(server: Supervisor, seconds: float) -> float:
    """Updates a second of a trainer that has the machine for itself."""
    rows: list[dict[str, float]] = []
    until = time.monotonic() + seconds + 1.0
    while time.monotonic() < until:
        server.poll(0.1)
        if not rows or rows[-1]["time"] != server.row["time"]:
            rows.append(server.row)
    rows = rows[2:]
    return (rows[-1]["updates"] - rows[0]["updates"]) / (rows[-1]["time"] - rows[0]["time"])


SERVER = {
    "metrics.every_s": 0.25,
    "replay.capacity_steps": 200_000,
    # As many updates as the trainer can make: it must never pause for lack of frames.
    "trainer.replay_ratio": 1e6,
    # Nobody is to measure a server of which a part was away.
    "supervision.max_restarts": 0,
}
"""Settings of every measured server, over the preset `bench`."""


def bench_server(config: dict[str, Any]) -> AbstractContextManager[Supervisor]:
    """A server to measure. `config`: settings over `SERVER`."""
    return supervised(SERVER | config, preset="bench")


def _start_load(load: Load, port: int, **options: Any) -> LoadProcess:
    address = ("127.0.0.1", port)
    return LoadProcess(
        load_process, address, load.spec, load.clients, load.seconds, tempest=load.tempest,
        **options,
    )  # fmt: skip


def _play(load: Load, port: int, server: Supervisor | None = None, **options: Any) -> LoadResult:
    """What clients see. A server is looked after meanwhile, every tenth of a second."""

    def meanwhile() -> None:
        time.sleep(0.1)
        if server is not None:
            server.poll(0)

    with _start_load(load, port, **options) as process:
        result: LoadResult = process.receive(meanwhile=meanwhile)
    return result


@contextmanager
def echo_server(request_bytes: int) -> Iterator[int]:
    """The calibration: uvloop alone, answering requests of this size with a few bytes; its port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        ready = _SPAWN.Event()
        process = _SPAWN.Process(target=_echo, args=(sock, request_bytes, ready), daemon=True)
        process.start()
        sock.listen()
        ready.wait(60.0)  # on a busy machine its imports take as long as a measurement
        try:
            yield sock.getsockname()[1]
        finally:
            process.terminate()
            process.join()


def _echo(sock: socket.socket, request_bytes: int, ready: Event) -> None:
    reply = bytes(REPLY_BYTES)

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)
            self.waiting = 0

        def data_received(self, data: bytes) -> None:
            self.waiting += len(data)
            while self.waiting >= request_bytes:
                self.waiting -= request_bytes
                self.transport.write(reply)

    async def serve() -> None:
        await asyncio.get_running_loop().create_server(Echo, sock=sock)
        ready.set()
        await asyncio.Event().wait()

    uvloop.run(serve())


@contextmanager
def _matrix_computation() -> Iterator[None]:
    stop = _SPAWN.Event()
    process = _SPAWN.Process(target=_multiply, args=(stop,), daemon=True)
    process.start()
    time.sleep(2.0)  # the import of torch is no computation
    try:
        yield
    finally:
        stop.set()
        process.join()


def _multiply(stop: Event) -> None:
    torch.set_num_threads(1)
    rows, inner, columns = MATRIX
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)
    out = torch.empty(rows, columns)
    while not stop.is_set():
        torch.mm(a, b, out=out)
