"""Bench of a cluster of two nodes and two learners: how old weights are in the second node, and how
long a killed learner's place is empty."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from agent.factory import make_learner
from lab.bench.cluster_parts import (
    SPEC,
    WAIT_S,
    Row,
    attached_slots,
    await_welcome,
    server_on,
    show,
)
from lab.bench.start import import_torch
from lab.load.clients import PreparedClient
from lab.local_ray import ADDRESS
from lab.proc import in_this_network
from lab.supervised import until as until_within
from lab.supervised import updates_made
from server.ipc.weight_slot import WeightSlot
from server.run.events import read_events
from server.supervisor.supervisor import Supervisor

WEIGHTS_GOAL_MS, KILLED_GOAL_S = 50.0, 10.0
LOOK_S = 0.001

until = partial(until_within, wait_s=WAIT_S)

CONFIG = {
    "cluster.gateways": 2,
    "cluster.learners": 2,
    "learner.hidden": [512, 256],
    "learner.batch_size": 64,
    "trainer.replay_ratio": 0.25,
    "trainer.min_steps": 500,
    "metrics.every_s": 0.1,
    "checkpoint.every_s": 3600.0,
    "supervision.max_restarts": 5,
}
"""Of a network of about 1 MB that learns all the time, and leaves the machine time for the rest."""


def measure(seconds: float) -> Iterator[Row]:
    """A row for each."""
    show("cluster, weights in a second node's slot")
    with server_on(ADDRESS, CONFIG) as server:
        until(server, lambda: bool(server.status.nodes), "nodes are there")
        ports = [port for _, port in server.status.gateway_nodes]
        players = Players(ports)
        try:
            await_welcome(server, players.games)
            until(server, lambda: updates_made(server) > 0, "they learn", players.play)
            yield weights(server, players, seconds)
            show("cluster, a killed learner")
            yield killed(server, players)
        finally:
            players.close()


def weights(server: Supervisor, players: Players, seconds: float) -> Row:
    """How long after they are in the first learner's slot weights are in the second node's, while
    it learns, on one clock."""
    made = make_learner(server.config, SPEC, torch.device("cpu"))
    size = len(made.policy_vector())
    with attached_slots(server, 1, size) as (first, second):
        over = threading.Event()
        late: list[float] = []
        watch = threading.Thread(target=_watch, args=(first, second, late, over))
        watch.start()
        begin = time.monotonic()
        while time.monotonic() < begin + seconds or len(late) < 40:
            players.play()
            server.poll(0.01)
            if time.monotonic() > begin + WAIT_S:
                raise TimeoutError(f"expected 40 versions within {WAIT_S:g} s, got {len(late)}")
        over.set()
        watch.join()
    p50, p95 = (float(np.percentile(late, q)) * 1e3 for q in (50, 95))
    return {
        "what": "weights",
        "bytes": 4 * size,
        "versions": len(late),
        "p50_ms": round(p50, 1),
        "p95_ms": round(p95, 1),
        "goal": WEIGHTS_GOAL_MS,
        "ok": p95 <= WEIGHTS_GOAL_MS,
    }


def _watch(first: WeightSlot, second: WeightSlot, late: list[float], over: threading.Event) -> None:
    """Add how late each version is that comes."""
    seen: dict[int, float] = {}
    arrived = second.version
    while not over.is_set():
        there, now = second.version, time.monotonic()
        if there > arrived and there in seen:
            late.append(now - seen[there])
        arrived = there
        seen.setdefault(first.version, now)
        time.sleep(LOOK_S)


def killed(server: Supervisor, players: Players) -> Row:
    """SIGKILL for the actor of the second learner, until both make updates again."""
    saved = server.trainer.checkpoint()
    if saved.error:
        raise RuntimeError(f"expected a checkpoint, got {saved.error}")
    before = float(Path(saved.path).stem.split("-")[1])
    torch_s, _ = import_torch({})
    actors = [pid for pid, words in in_this_network().items() if "ray::ShardActor" in words]
    starts = len(trainer_starts(server))
    os.kill(max(actors), signal.SIGKILL)
    begin = time.monotonic()
    until(server, lambda: len(trainer_starts(server)) > starts, "it is started", players.play)
    started_s, at = time.monotonic() - begin, time.time()

    def learns() -> bool:
        # What the dead trainer said last is shown for a while.
        said = server.row["time"] - server.row["report_age_s_trainer"]
        return said > at and updates_made(server) > before

    until(server, learns, "they learn again", players.play)
    taken = time.monotonic() - begin
    return {
        "what": "killed learner",
        "learners": 2,
        "learns_again_s": round(taken, 2),
        "started_again_s": round(started_s, 2),
        "torch_s": round(torch_s, 2),
        "of_torch": round(taken / torch_s, 2),
        "goal": KILLED_GOAL_S,
        "ok": taken <= KILLED_GOAL_S,
    }


def trainer_starts(server: Supervisor) -> list[Row]:
    """The events of trainers that were started."""
    events = read_events(server.folder.path)
    return [e for e in events if e["event"] == "process_started" and e["process"] == "trainer"]


class Players:
    """A game on each node, in lock step."""

    def __init__(self, ports: list[int]) -> None:
        rng = np.random.default_rng(0)
        self.games = [PreparedClient(("127.0.0.1", port), SPEC, rng) for port in ports]
        for game in self.games:
            game.send_hello()

    def play(self, frames: int = 4) -> None:
        """So many frames each."""
        for game in self.games:
            for _ in range(frames):
                game.send(0.0)
                game.receive()

    def close(self) -> None:
        for game in self.games:
            game.sock.close()
