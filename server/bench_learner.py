"""Bench of the learner: how fast a step is, beside what the machine's matrix products allow.

`bound_ms` is the time of the products that a step must do (three forward passes, and a backward
pass without the gradient of the observations) at the rate of a plain product of the calibration's
shape; `achieved` is bound / step; `tags_cost` is what per-actor weights and metrics add to a step
without them. Every figure is the best of interleaved rounds, so that a busy machine slows all of
them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch

from agent.learner import Learner
from agent.replay import Batch
from config.models import AdvantageConfig, ImitationConfig, LearnerConfig
from protocol.actor import ACTORS
from protocol.spaces import Continuous, Discrete, GameSpec, Observation

SHAPES: tuple[dict[str, Any], ...] = (
    # The older system's hybrid network.
    {"rows": 8192, "inputs": 171, "hidden": [256, 256, 128, 128], "choices": 4, "threads": 2},
    # What the serving bench trains meanwhile.
    {"rows": 768, "inputs": 195, "hidden": [512, 512, 256], "choices": 44, "threads": 1},
    # The demo's.
    {"rows": 128, "inputs": 8, "hidden": [128, 128], "choices": 2, "threads": 1},
)


def measure(device: str, rounds: int = 8) -> Iterator[dict[str, Any]]:
    """A row for each of SHAPES."""
    before = torch.get_num_threads()
    for shape in SHAPES:
        torch.set_num_threads(shape["threads"])
        sizes = {name: value for name, value in shape.items() if name != "threads"}
        yield {"case": "learner", "device": device, **shape} | _measure(device, rounds, **sizes)
    torch.set_num_threads(before)


def _measure(
    device: str, rounds: int, rows: int, inputs: int, hidden: list[int], choices: int
) -> dict[str, float]:
    spec = GameSpec(
        "bench",
        Observation("float32", (inputs,)),
        (Discrete("choice", choices), Continuous("axis", -0.9, 0.9, 1)),
    )
    batch = random_batch(spec, rows).to(device)
    tagged, plain = learner(spec, hidden, "per_actor", device), learner(spec, hidden, "off", device)
    plain._diagnostics.update = lambda *_: None  # type: ignore[method-assign]
    left, right = torch.randn(8192, 256, device=device), torch.randn(256, 256, device=device)
    cases: list[Callable[[], object]] = [
        lambda: left @ right,
        lambda: tagged.step(batch),
        lambda: plain.step(batch),
    ]
    rounds_of = [[best_of(case, device) for case in cases] for _ in range(rounds)]
    matmul_s, step_s, plain_s = (min(column) for column in zip(*rounds_of, strict=True))

    flops_per_s = 2 * left.numel() * right.shape[1] / matmul_s
    layers = [a * b for a, b in pairwise([inputs, *hidden, 1 + choices + 1])]
    bound_s = 2 * rows * (4 * sum(layers) + sum(layers[1:])) / flops_per_s
    return {
        "matmul_gflops": round(flops_per_s / 1e9, 1),
        "ms": round(step_s * 1e3, 3),
        "bound_ms": round(bound_s * 1e3, 3),
        "achieved": round(bound_s / step_s, 3),
        "tags_cost": round(step_s / plain_s - 1, 4),
        "updates_per_s": round(1 / step_s, 2),
        "samples_per_s": round(rows / step_s),
    }


def learner(spec: GameSpec, hidden: list[int], mode: str, device: str) -> Learner:
    """A learner whose next steps measure no gradient norms."""
    settings = LearnerConfig(hidden=tuple(hidden), grad_norm_every=10**9)
    made = Learner(
        spec,
        settings,
        AdvantageConfig.model_validate({"mode": mode}),
        ImitationConfig(),
        device=device,
    )
    made.step(random_batch(spec, 32).to(device))  # the one that does
    return made


def random_batch(spec: GameSpec, n: int) -> Batch:
    """`n` rows of both actors."""
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
        importance=torch.ones(n),
        indices=torch.arange(n),
    )


def best_of(case: Callable[[], object], device: str) -> float:
    """The best time in seconds, over at least 0.1 s and three runs."""
    best, until, runs = float("inf"), time.perf_counter() + 0.1, 0
    while runs < 3 or time.perf_counter() < until:
        start = time.perf_counter()
        case()
        if device != "cpu":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
        runs += 1
    return best
