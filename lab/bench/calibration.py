"""What the serving bench is compared with: an echo, a forward pass, an unrelated computation."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from statistics import median
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import uvloop

from agent.policy import Policy
from config.models import LearnerConfig
from protocol.spaces import GameSpec

MATRIX = (8192, 256, 256)
"""The unrelated computation, and the calibration: rows, columns, columns."""

FORWARD_S = 0.3
"""How long forward passes are measured."""

_SPAWN = multiprocessing.get_context("spawn")


class _FirstWeights:
    """No others come than those that a network is made with."""

    version = 0

    def fetch(self, _: npt.NDArray[np.float32]) -> int:
        return 0


def forward_s(spec: GameSpec, hidden: list[int], rows: int) -> float:
    """Seconds of processor time of a forward pass of so many rows as a gateway makes it: the median
    of many."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    policy = Policy(spec, LearnerConfig(hidden=tuple(hidden)), _FirstWeights())
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((rows, spec.observation_size), dtype=np.float32)
    taken: list[float] = []
    until = time.perf_counter() + FORWARD_S
    while time.perf_counter() < until or len(taken) < 5:
        begin = time.thread_time()
        policy.greedy(obs)
        taken.append(time.thread_time() - begin)
    torch.set_num_threads(before)
    return median(taken)


@contextmanager
def echo_server(request_bytes: int, reply_bytes: int) -> Iterator[tuple[int, int]]:
    """uvloop alone, answering requests of this size with so many bytes; its port, and its process
    ID."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        ready = _SPAWN.Event()
        process = _SPAWN.Process(
            target=_echo, args=(sock, request_bytes, reply_bytes, ready), daemon=True
        )
        process.start()
        sock.listen()
        ready.wait(60.0)  # on a busy machine its imports take as long as a measurement
        try:
            yield sock.getsockname()[1], process.pid or 0
        finally:
            process.terminate()
            process.join()


def _echo(sock: socket.socket, request_bytes: int, reply_bytes: int, ready: Event) -> None:
    reply = bytes(reply_bytes)

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
def matrix_computation() -> Iterator[None]:
    """A process that multiplies matrices on one thread."""
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
