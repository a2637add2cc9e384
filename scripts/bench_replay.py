"""Measure the replay: steps appended per second, time to sample, bytes a step.

Prints one JSON line. Sampling is compared with `gather_ms`, two plain np.take of as many random
rows of the same storage, alternately in the same run: machines differ, the ratio less so.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from agent.replay import Replay
from agent.step import STEP, StepBlock
from protocol.spaces import Continuous, Discrete, GameSpec, Observation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capacity", type=int, default=1_000_000)
    parser.add_argument("--observation", type=int, default=195)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--n-step", type=int, default=3)
    parser.add_argument("--block", type=int, default=4096)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    heads = (Discrete("buttons", 4), Continuous("spin", -1.0, 1.0, 1))
    spec = GameSpec("bench", Observation("float32", (args.observation,)), heads)
    replay = Replay(
        spec, args.capacity, n_step=args.n_step, gamma=0.99, device=args.device, seed=1
    )
    append_s = fill(replay, args.block, args.streams)
    sample_ms, gather_ms = compare(replay, args.batch, args.repeats)
    print(
        json.dumps(
            {
                "case": "replay",
                "capacity_steps": args.capacity,
                "observation_size": args.observation,
                "batch_size": args.batch,
                "n_step": args.n_step,
                "block": args.block,
                "streams": args.streams,
                "device": args.device,
                "append_steps_per_s": round(1 / append_s),
                "ms": round(sample_ms, 3),
                "gather_ms": round(gather_ms, 3),
                "ratio": round(sample_ms / gather_ms, 3),
                "bytes_per_step": replay.nbytes / args.capacity,
            }
        )
    )


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
        # Long runs of one actor, as a game with a person at the controls has.
        taken.append(seconds(lambda: replay.append(block)))
    return median(taken[len(taken) // 2 :]) / rows


def compare(replay: Replay, batch: int, repeats: int) -> tuple[float, float]:
    """Median milliseconds of a sample, and of two plain gathers of as many rows."""
    rng = np.random.default_rng(0)
    # The storage itself where it is on the host, else as large an array beside it.
    obs = replay._obs.numpy() if replay.device.type == "cpu" else np.ones(replay._obs.shape, "f4")
    sampling, gathering = [], []
    for _ in range(repeats):
        picks = rng.integers(0, len(obs), (2, batch))
        gathering.append(sum(seconds(lambda p=p: np.take(obs, p, axis=0)) for p in picks))
        sampling.append(seconds(lambda: settled(replay, batch)))
    return median(sampling) * 1e3, median(gathering) * 1e3


def settled(replay: Replay, batch: int) -> None:
    replay.sample(batch)
    if replay.device.type == "cuda":
        torch.cuda.synchronize(replay.device)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
