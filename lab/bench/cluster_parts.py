"""Servers on a cluster for its bench, and a look into the shared memory of their actors."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import resource_tracker
from typing import Any

from lab.bench.serving import SERVER
from lab.load.clients import PreparedClient, bench_spec
from lab.supervised import supervised
from server.cluster.actor_folders import own_folder
from server.cluster.messages import Setup
from server.cluster.start import on_cluster
from server.ipc import shared_memory
from server.ipc.step_ring import StepRing
from server.ipc.weight_slot import WeightSlot
from server.supervisor.supervisor import Supervisor

WAIT_S = 240.0

SPEC = bench_spec(195, 44)

Row = dict[str, Any]


def show(text: str) -> None:
    """What is measured now."""
    print(text, file=sys.stderr, flush=True)


def server_on(address: str | None, config: Row) -> AbstractContextManager[Supervisor]:
    """A server to measure: on the cluster at this address, or, for None, the embedded one.
    `config`: settings over those of the serving bench."""
    config = SERVER | {"cluster.start_timeout_s": 240.0} | config
    if address is None:
        return supervised(config, preset="bench")
    return supervised(config, preset="bench", make=on_cluster(address))


def await_welcome(server: Supervisor, games: Sequence[PreparedClient]) -> None:
    """Look after the server until all games that have said HELLO are welcome. Errors:
    TimeoutError."""
    deadline = time.monotonic() + WAIT_S
    waiting = list(games)
    while waiting:
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected WELCOME within {WAIT_S:g} s")
        server.poll(0.05)
        readable, _, _ = select.select([game.sock for game in waiting], [], [], 0.0)
        for game in [each for each in waiting if each.sock in readable]:
            game.sock.recv(4096)
            waiting.remove(game)


def noted(server: Supervisor, kind: str, number: int, ending: str = "") -> str:
    """The name of the first shared memory of an actor that ends so; empty where there is none yet.
    `kind`: node or learner."""
    run = server.folder
    folder = own_folder(kind, number, Setup(server.config, str(run.path), run.launch))
    file = folder / shared_memory.FILE
    names = file.read_text().split()[1:] if file.exists() else []
    return next((name for name in names if name.endswith(ending)), "")


@contextmanager
def attached_ring(server: Supervisor, capacity: int) -> Iterator[StepRing]:
    """The ring of node 0's gateway."""
    name = noted(server, "node", 0)
    ring = StepRing.attach(name, SPEC, capacity)
    _not_ours(name)
    try:
        yield ring
    finally:
        ring.close()


@contextmanager
def attached_slots(server: Supervisor, node: int, size: int) -> Iterator[tuple[WeightSlot, ...]]:
    """The first learner's slot, and that of a node, of so many parameters."""
    names = noted(server, "learner", 0, "_weights"), noted(server, "node", node, "_here")
    slots = tuple(WeightSlot.attach(name, size) for name in names)
    for name in names:
        _not_ours(name)
    try:
        yield slots
    finally:
        for slot in slots:
            slot.close()


def _not_ours(name: str) -> None:
    """Python takes whoever attaches for an owner, and would remove it when this process ends."""
    resource_tracker.unregister(f"/{name}", "shared_memory")
