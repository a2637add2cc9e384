"""How fast a step of the learner is, beside what the machine's matrix products allow.

    python scripts/bench_learner.py [--threads 2] [--rows 8192] [--hidden 256 256 128 128] …

Prints one JSON line: `matmul_gflops` (float32, 8192 x 256 x 256), `step_ms`, `bound_ms` (the time
of the products that a step must do at that rate: three forward passes, and a backward pass without
the gradient of the observations), `achieved` (bound / step), `tags_cost` (what per-actor weights
and metrics add to a step without them). Every figure is the best of interleaved rounds, so that a
busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise

import torch

from agent.learner import Learner
from agent.replay import Batch
from config.models import AdvantageConfig, LearnerConfig
from protocol.actor import ACTORS
from protocol.spaces import Continuous, Discrete, GameSpec, Observation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=8192, help="steps in a batch")
    parser.add_argument("--inputs", type=int, default=171, help="numbers in an observation")
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 256, 128, 128])
    parser.add_argument("--choices", type=int, default=4, help="of the discrete head")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        json.dumps(vars(args) | measure(**{k: v for k, v in vars(args).items() if k != "threads"}))
    )


def measure(
    rows: int, inputs: int, hidden: list[int], choices: int, rounds: int
) -> dict[str, float]:
    """The figures of the module's docstring, with the thread count that is set."""
    spec = GameSpec(
        "bench",
        Observation("float32", (inputs,)),
        (Discrete("choice", choices), Continuous("axis", -0.9, 0.9, 1)),
    )
    batch = random_batch(spec, rows)
    tagged, plain = learner(spec, hidden, "per_actor"), learner(spec, hidden, "off")
    plain._diagnostics.update = lambda *_: None  # type: ignore[method-assign]
    left, right = torch.randn(8192, 256), torch.randn(256, 256)
    cases: list[Callable[[], object]] = [
        lambda: left @ right,
        lambda: tagged.step(batch),
        lambda: plain.step(batch),
    ]
    times = [min(column) for column in zip(*(one_round(cases) for _ in range(rounds)), strict=True)]
    matmul_s, step_s, plain_s = times

    flops_per_s = 2 * left.numel() * right.shape[1] / matmul_s
    layers = [a * b for a, b in pairwise([inputs, *hidden, 1 + choices + 1])]
    bound_s = 2 * rows * (4 * sum(layers) + sum(layers[1:])) / flops_per_s
    return {
        "matmul_gflops": round(flops_per_s / 1e9, 1),
        "step_ms": round(step_s * 1e3, 3),
        "bound_ms": round(bound_s * 1e3, 3),
        "achieved": round(bound_s / step_s, 3),
        "tags_cost": round(step_s / plain_s - 1, 4),
        "updates_per_s": round(1 / step_s, 2),
        "samples_per_s": round(rows / step_s),
    }


def learner(spec: GameSpec, hidden: list[int], mode: str) -> Learner:
    settings = LearnerConfig(hidden=tuple(hidden), grad_norm_every=10**9)
    made = Learner(spec, settings, AdvantageConfig.model_validate({"mode": mode}), device="cpu")
    made.step(random_batch(spec, 32))  # the one whose gradient norms are measured
    return made


def random_batch(spec: GameSpec, n: int) -> Batch:
    shape = (n, *spec.observation.shape)
    return Batch(
        states=torch.randn(shape),
        discrete=torch.stack([torch.randint(0, head.n, (n,)) for head in spec.discrete], 1),
        continuous=torch.rand(n, len(spec.continuous_columns)) - 0.5,
        rewards=torch.randn(n),
        returns=torch.randn(n),
        next_states=torch.randn(shape),
        discounts=torch.full((n,), 0.97),
        actors=torch.tensor(ACTORS)[torch.randint(0, len(ACTORS), (n,))],
        horizons=torch.full((n,), 3),
        indices=torch.arange(n),
    )


def one_round(cases: list[Callable[[], object]]) -> list[float]:
    """The best time of each case, in seconds, each for at least 0.1 s and three times."""
    return [best_of(case) for case in cases]


def best_of(case: Callable[[], object]) -> float:
    best, until, runs = float("inf"), time.perf_counter() + 0.1, 0
    while runs < 3 or time.perf_counter() < until:
        start = time.perf_counter()
        case()
        best = min(best, time.perf_counter() - start)
        runs += 1
    return best


if __name__ == "__main__":
    main()
