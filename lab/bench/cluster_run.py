"""The bench of a cluster in its own network: `python -m lab.bench.cluster_run SECONDS ROUNDS`,
started by `lab.bench.cluster`. Prints a JSON line for each figure; `costs` in it are for the
model."""

from __future__ import annotations

import json
import sys
import time
from statistics import median

import numpy as np
import torch

from agent.batch import Batch
from agent.collective import Gloo
from agent.learner import Learner
from agent.step import STEP, StepBlock
from lab.bench import cluster_recovery, learner
from lab.bench.cluster_parts import SPEC, Row, attached_ring, await_welcome, server_on, show
from lab.bench.ranks import as_ranks
from lab.load.clients import PreparedClient
from lab.load.generator import LoadResult, load_process
from lab.load.process import LoadProcess
from lab.local_ray import ADDRESS, local_ray
from lab.proc import in_this_network, processor_s_of_threads
from server.supervisor.supervisor import Supervisor

HIDDEN = [512, 512, 256]
CLIENTS = 32
BLOCK = 4096

SERVING_GOAL, SHIPPING_GOAL = 0.9, 150_000


def main() -> None:
    seconds, rounds = float(sys.argv[1]), int(sys.argv[2])
    with local_ray(nodes=1) as ray:
        for training in (False, True):
            _print(serving(seconds, rounds, training=training))
        _print(shipping(seconds))
        ray.add_node()
        for row in cluster_recovery.measure(seconds):
            _print(row)
    _print(updates())


def _print(row: Row) -> None:
    print(json.dumps({"case": "cluster"} | row), flush=True)


# Serving.


def serving(seconds: float, rounds: int, *, training: bool) -> Row:
    """One gateway node and one learner, beside the embedded server, in turns: frames/s, and the
    processor time of a frame, of all processes but the games'."""
    found: dict[bool, list[tuple[LoadResult, float]]] = {False: [], True: []}
    for number in range(rounds):
        show(f"cluster, serving, training {training}, round {number + 1} of {rounds}")
        for on_ray in (False, True):
            config = {"trainer.enabled": training, "learner.hidden": HIDDEN}
            with server_on(ADDRESS if on_ray else None, config) as server:
                found[on_ray].append(_played(server, seconds))
    fps = {where: [load.fps for load, _ in each] for where, each in found.items()}
    cpu = {where: median(used for _, used in each) for where, each in found.items()}
    ratio = median(a / b for a, b in zip(fps[True], fps[False], strict=True))
    row = {
        "what": "serving",
        "clients": CLIENTS,
        "training": training,
        "fps": round(median(fps[True])),
        "p99_ms": round(median(load.p99_ms for load, _ in found[True]), 2),
        "embedded_fps": round(median(fps[False])),
        "embedded_p99_ms": round(median(load.p99_ms for load, _ in found[False]), 2),
        "of_embedded": round(ratio, 3),
        "cpu_us_a_frame": round(cpu[True] * 1e6, 1),
        "embedded_cpu_us_a_frame": round(cpu[False] * 1e6, 1),
    }
    if not training:
        row |= {"goal": SERVING_GOAL, "ok": ratio >= SERVING_GOAL}
        row["costs"] = {"frames_per_s": median(fps[False])}
    return row


def _played(server: Supervisor, seconds: float) -> tuple[LoadResult, float]:
    """What games saw, and the processor time of each frame in the meantime, s."""
    address = ("127.0.0.1", server.port)
    with LoadProcess(load_process, address, SPEC, CLIENTS, seconds, warmup_s=2.0) as process:
        games = _games()
        while not server.steps:  # they have begun
            server.poll(0.05)
        before, steps = _processor_s(games), server.steps

        def meanwhile() -> None:
            server.poll(0.1)

        result: LoadResult = process.receive(meanwhile=meanwhile)
        used, steps = _processor_s(games) - before, server.steps - steps
    return result, used / max(steps, 1)


def _games() -> set[int]:
    """The processes that are no part of a server: this one would be, but for its load."""
    return {pid for pid, words in in_this_network().items() if "--multiprocessing-fork" in words}


def _processor_s(but: set[int]) -> float:
    return sum(processor_s_of_threads(pid) for pid in in_this_network().keys() - but)


# Shipping.


def shipping(seconds: float) -> Row:
    """Rows that this process writes into a gateway node's ring, in place of its gateway, until they
    are acknowledged: sent, journalled, stored in the replay, and let go of."""
    show("cluster, shipping")
    config = {"trainer.enabled": False, "server.ring_steps": 16 * BLOCK, "learner.hidden": [64]}
    with server_on(ADDRESS, config) as server:
        client = PreparedClient(("127.0.0.1", server.port), SPEC, np.random.default_rng(0))
        client.send_hello()
        await_welcome(server, [client])
        with attached_ring(server, 16 * BLOCK) as ring:
            block, number = _block(), 0
            nodes = [p for p, words in in_this_network().items() if "ray::NodeActor" in words]
            began, at, used = 0.0, 0, 0.0
            until = time.monotonic() + 2.0 + seconds
            while (now := time.monotonic()) < until:
                if not began and now > until - seconds:  # warm
                    began, at = now, ring.steps_read
                    used = sum(map(processor_s_of_threads, nodes))
                if ring.free >= BLOCK:
                    frame = number * BLOCK + np.arange(BLOCK)
                    block.stream[:] = (frame % CLIENTS + 1) << 16
                    block.seq[:] = frame // CLIENTS
                    ring.write(block)
                    number += 1
                else:
                    server.poll(0.002)
            rate = (ring.steps_read - at) / (time.monotonic() - began)
            cpu = (sum(map(processor_s_of_threads, nodes)) - used) / max(ring.steps_read - at, 1)
        client.sock.close()
    return {
        "what": "shipping",
        "rows_a_block": BLOCK,
        "bytes_a_row": StepBlock.nbytes(SPEC, BLOCK) // BLOCK,
        "steps_per_s": round(rate),
        "node_cpu_us_a_row": round(cpu * 1e6, 2),
        "goal": SHIPPING_GOAL,
        "ok": rate >= SHIPPING_GOAL,
        "costs": {
            "ship_cpu_s": cpu,
            "take_in_per_s": rate,
            "row_bytes": StepBlock.nbytes(SPEC, BLOCK) / BLOCK,
        },
    }


def _block() -> StepBlock:
    rng = np.random.default_rng(0)
    block = StepBlock.empty(SPEC, BLOCK)
    block.obs[:] = rng.standard_normal(block.obs.shape)
    block.kind[:] = STEP
    block.actor[:] = rng.integers(1, 3, BLOCK)
    return block


# Updates, for the model.


def updates() -> Row:
    """An update of one learner from a batch, and from half of one; and what a few numbers of each
    of two learners cost."""
    show("cluster, updates of one learner")
    torch.set_num_threads(1)
    made = learner.learner(SPEC, HIDDEN, "per_actor", "cpu")
    whole, half = (_step_s(made, learner.random_batch(SPEC, rows)) for rows in (768, 384))
    gather = min(as_ranks(_gather_s))
    return {
        "what": "updates",
        "rows": 768,
        "ms": round(whole * 1e3, 2),
        "half_ms": round(half * 1e3, 2),
        "gather_ms": round(gather * 1e3, 3),
        "costs": {
            "update_s": whole,
            "half_update_s": half,
            "gather_s": gather,
            "parameters": len(made.policy_vector()),
        },
    }


def _step_s(made: Learner, batch: Batch) -> float:
    return min(learner.best_of(lambda: made.step(batch), "cpu") for _ in range(5))


def _gather_s(ranks: Gloo) -> float:
    few, taken = torch.zeros(24, dtype=torch.float64), []
    for _ in range(200):
        begin = time.perf_counter()
        ranks.gather(few)
        taken.append(time.perf_counter() - begin)
    return median(taken)


if __name__ == "__main__":
    main()
