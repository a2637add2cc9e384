"""Bench of the replay: steps appended per second, time to sample, bytes a step; uniformly, and by
priority with the update of the priorities that follows each batch.

Sampling is compared with `gather_ms`, two plain np.take of as many random
rows of the same storage, alternately in the same run: machines differ, the ratio less so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import torch

from agent.replay import Replay
from agent.step import STEP, StepBlock
from protocol.spaces import Discrete, GameSpec, Observation


def measure(device: str = "cpu") -> Iterator[dict[str, Any]]:
    """A row for uniform sampling and one for sampling by priority."""
    for prioritised in (False, True):
        yield measure_one(device=device, prioritised=prioritised)


def measure_one(
    *,
    device: str = "cpu",
    prioritised: bool = False,
    capacity: int = 1_000_000,
    observations: int = 195,
    batch: int = 8192,
    n_step: int = 3,
    block: int = 4096,
    streams: int = 32,
    repeats: int = 200,
) -> dict[str, Any]:
    """One row: appending in blocks, sampling and the plain gathers beside it, bytes a step.

    `ms` is a sample; with priorities `update_ms` is an update of them, from other errors each time,
    and `ms_of_gather` goes by both together.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spec = GameSpec("bench", Observation("float32", (observations,)), (Discrete("act", 44),))
    alpha = 0.6 if prioritised else None
    replay = Replay(
        spec, capacity, n_step=n_step, gamma=0.99, device=device, priority_alpha=alpha, seed=1
    )
    append_s = fill(replay, block, streams)
    sample_ms, update_ms, gather_ms = compare(replay, batch, repeats)
    torch.set_num_threads(threads)
    return {
        "case": "replay",
        "prioritised": prioritised,
        "capacity_steps": capacity,
        "observations": observations,
        "batch_size": batch,
        "n_step": n_step,
        "block": block,
        "streams": streams,
        "device": device,
        "append_steps_per_s": round(1 / append_s),
        "ms": round(sample_ms, 3),
        **({"update_ms": round(update_ms, 3)} if prioritised else {}),
        "gather_ms": round(gather_ms, 3),
        "ms_of_gather": round((sample_ms + update_ms) / gather_ms, 3),
        "bytes_per_step": round(replay.nbytes / capacity, 1),
    }


def fill(replay: Replay, rows: int, streams: int) -> float:
    """Append until every place has been written twice; the median seconds a step, overwriting."""
    rng = np.random.default_rng(0)
    block = StepBlock.empty(replay.spec, rows)
    block.obs[:] = rng.standard_normal(block.obs.shape)
    block.reward[:] = rng.standard_normal(rows)
    block.kind[:] = STEP
    block.actor[:] = rng.integers(1, 3, rows)
    taken: list[float] = []
    for number in range(2 * replay.capacity_steps // rows + 2):
        frame = number * rows + np.arange(rows)
        block.stream[:] = frame % streams
        block.seq[:] = frame // streams
        taken.append(seconds(lambda: replay.append(block)))
    return median(taken[len(taken) // 2 :]) / rows


def compare(replay: Replay, batch: int, repeats: int) -> tuple[float, float, float]:
    """Median milliseconds of a sample, of an update of its priorities (0 where there are none),
    and of two plain gathers of as many rows: on the cpu of processor time, which other work on the
    machine does not lengthen."""
    clock = time.thread_time if replay.device.type == "cpu" else time.perf_counter
    rng = np.random.default_rng(0)
    # The storage itself where it is on the host, else as large an array beside it.
    (store,) = replay._rows.obs
    obs = store.numpy() if replay.device.type == "cpu" else np.ones(store.shape, "f4")
    sampling, updating, gathering = [], [], []
    for _ in range(repeats):
        states, next_states = rng.integers(0, len(obs), (2, batch))
        begin = clock()
        np.take(obs, states, axis=0)
        np.take(obs, next_states, axis=0)
        gathering.append(clock() - begin)
        begin = clock()
        drawn = replay.sample(batch)
        settle(replay)
        sampling.append(clock() - begin)
        if replay.prioritized:
            errors = torch.from_numpy(rng.exponential(1.0, batch)).float().to(replay.device)
            begin = clock()
            replay.update_priorities(drawn.indices, errors)
            settle(replay)
            updating.append(clock() - begin)
    return median(sampling) * 1e3, median(updating or [0.0]) * 1e3, median(gathering) * 1e3


def settle(replay: Replay) -> None:
    if replay.device.type == "cuda":
        torch.cuda.synchronize(replay.device)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
