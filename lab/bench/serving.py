"""Bench: what a client sees of the server while nobody trains, while something unrelated computes,
and while the trainer trains.

All is measured in rounds that follow each other closely, and compared within a round: machines are
shared and drift. Medians over the rounds are reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from lab.bench.calibration import echo_server, forward_s, matrix_computation
from lab.load.clients import bench_spec, frame_bytes
from lab.load.generator import LoadResult, load_process
from lab.load.process import LoadProcess
from lab.proc import processor_s
from lab.supervised import supervised
from protocol.spaces import GameSpec
from server.supervisor.supervisor import Supervisor

REPLY_BYTES, REPLY_BYTES_OF_SLOT = 22, 6
"""About the size of an ACTION; of ACTIONS so many more for each slot."""

TEMPEST = {
    "tempest.port": 0,
    "expert.plugin": "server.gateway.tempest_expert:recommend",
    "reward.weights": {"objective": 0.01, "subjective": 0.005},
    "reward.clip": 10.0,
}
"""Settings of the case with older clients."""


@dataclass(frozen=True)
class Shape:
    """Who plays: connections, slots of each, and the numbers of an observation."""

    clients: int
    observations: int
    slots: int = 1

    @staticmethod
    def of(text: str) -> Shape:
        """From "32x195", or "2x64x195" with slots. Errors: ValueError."""
        clients, *slots, observations = (int(number) for number in text.split("x"))
        return Shape(clients, observations, *slots)

    @property
    def frames(self) -> int:
        """That all clients wait for at a time."""
        return self.clients * self.slots


SHAPES = ("32x195", "8x20", "128x1024", "2x64x195")
"""What is measured where nothing else is asked for; the first is the headline."""


@dataclass(frozen=True)
class Load:
    """What the clients of a measurement do."""

    spec: GameSpec
    shape: Shape
    seconds: float
    tempest: bool


@dataclass
class Round:
    """What one round measured."""

    echo: LoadResult
    forward_s: float
    """Of a forward pass of all clients' frames."""
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

    def limit_fps(self, frames: int) -> float:
        """What one core could do that has nothing to do but to answer, and to pass so many frames
        at a time through the network."""
        return 1 / (1 / self.echo.fps + self.forward_s / frames)

    def limit_us(self, frames: int) -> float:
        """Processor time of the same for each frame, in µs: what a gateway's can be compared with
        on a machine that has other work."""
        return self.echo.frame_us + self.forward_s / frames * 1e6


@dataclass
class Serving:
    """All rounds of one setting."""

    shape: Shape
    case: str = "serving"
    rounds: list[Round] = field(default_factory=list)

    def of(self, pick: Callable[[Round], float]) -> float:
        """The median over the rounds."""
        return median(pick(r) for r in self.rounds)

    def rows(self, parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The result as rows to print. The first with `"training": true` is the headline."""
        shape, frames = self.shape, self.shape.frames
        base = {
            "case": self.case,
            "clients": shape.clients,
            "slots": shape.slots,
            "observations": shape.observations,
            **parameters,
        }
        echo = round(self.of(lambda r: r.echo.fps))
        limit = {
            "limit_fps": round(self.of(lambda r: r.limit_fps(frames))),
            "echo_us": round(self.of(lambda r: r.echo.frame_us), 2),
            "forward_us": round(self.of(lambda r: r.forward_s / frames * 1e6), 2),
        }

        def of_limit(pick: Callable[[Round], LoadResult]) -> dict[str, float]:
            return limit | {
                "fps_of_limit": round(self.of(lambda r: pick(r).fps / r.limit_fps(frames)), 3),
                "p99_of_limit": round(
                    self.of(lambda r: pick(r).p99_ms * r.limit_fps(frames) / frames / 1e3), 2
                ),
                "frame_us": round(self.of(lambda r: pick(r).frame_us), 2),
                "limit_of_us": round(self.of(lambda r: r.limit_us(frames) / pick(r).frame_us), 3),
            }

        yield base | {"training": True} | self._columns(lambda r: r.training) | {
            "updates_per_s": round(self.of(lambda r: r.updates_per_s), 2),
            "samples_per_s": round(
                self.of(lambda r: r.updates_per_s) * parameters["batch_size"]
            ),
            "echo_fps": echo,
            **of_limit(lambda r: r.training),
            "fps_of_echo": round(self.of(lambda r: r.training.fps / r.echo.fps), 3),
            "fps_of_beside_matmul": round(self.of(lambda r: r.training.fps / r.beside.fps), 3),
            "updates_per_s_alone": round(self.of(lambda r: r.updates_per_s_alone), 2),
            "updates_of_alone": round(
                self.of(lambda r: r.updates_per_s / r.updates_per_s_alone), 3
            ),
        }  # fmt: skip
        yield base | {"training": False} | self._columns(lambda r: r.alone) | {
            "echo_fps": echo,
            **of_limit(lambda r: r.alone),
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
    shape: Shape,
    actions: int,
    hidden: list[int],
    *,
    seconds: float,
    rounds: int,
    config: dict[str, Any],
    show: Callable[[str], None],
    tempest: bool = False,
) -> Serving:
    """Run all rounds. `config` holds settings over the preset `bench`. `tempest`: clients send the
    older format, to a game of two heads of which the server's own expert recommends actions."""
    spec = bench_spec(shape.observations, actions)
    out = Serving(shape, "tempest" if tempest else "serving")
    load = Load(spec, shape, seconds, tempest)
    config = (TEMPEST if tempest else {}) | {"learner.hidden": hidden} | config
    requests = frame_bytes(spec, shape.slots, tempest=tempest)
    replies = REPLY_BYTES + (REPLY_BYTES_OF_SLOT * shape.slots if shape.slots > 1 else 0)
    for number in range(rounds):
        show(
            f"{out.case}, {shape.clients} clients of {shape.slots} slots and {shape.observations} "
            f"numbers, round {number + 1} of {rounds}"
        )
        with echo_server(requests, replies) as (port, process):
            echo = _play(load, port, [process], handshake=False)
        forward = forward_s(spec, hidden, shape.frames)
        with bench_server(config | {"trainer.enabled": False}) as server:
            alone = _play(load, _port(server), _gateways(server), server)
            with matrix_computation():
                beside = _play(load, _port(server), _gateways(server), server)
        with bench_server(config) as server:
            training, busy = _while_training(server, load)
            checkpoint, count = _while_saving(server, load)
            free = _updates_per_s(server, seconds)
        out.rounds.append(
            Round(echo, forward, alone, beside, training, busy, free, checkpoint, count)
        )
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
        result = _measured(process, _gateways(server), meanwhile)
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
        load_process, address, load.spec, load.shape.clients, load.seconds,
        slots=load.shape.slots, tempest=load.tempest, **options,
    )  # fmt: skip


def _gateways(server: Supervisor) -> list[int]:
    """Their process IDs."""
    return [child.pid for child in server._processes.gateways]


def _measured(process: LoadProcess, pids: list[int], meanwhile: Callable[[], None]) -> LoadResult:
    """What clients see, and what it costs these processes."""
    before = sum(map(processor_s, pids))
    result: LoadResult = process.receive(meanwhile=meanwhile)
    used = sum(map(processor_s, pids)) - before
    return replace(result, frame_us=used / result.sent * 1e6)


def _play(
    load: Load, port: int, pids: list[int], server: Supervisor | None = None, **options: Any
) -> LoadResult:
    """What clients see. A server is looked after meanwhile, every tenth of a second."""

    def meanwhile() -> None:
        time.sleep(0.1)
        if server is not None:
            server.poll(0)

    with _start_load(load, port, **options) as process:
        return _measured(process, pids, meanwhile)
