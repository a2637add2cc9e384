"""Bench of the learner: how fast a step is, beside what the machine's matrix products allow.

`bound_ms` is the time of the products that a step must do (three forward passes, and a backward
pass without the gradient of the observations) at the rate of a plain product of the calibration's
shape and precision; `achieved` is bound / step; `tags_cost` is what per-actor weights and metrics
add to a step without them; `updates_of_older` compares with the older system. Every figure is the
best of interleaved rounds, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Literal

import torch

from agent.learner import Learner
from agent.replay import Batch
from config.models import AdvantageConfig, ImitationConfig, LearnerConfig
from protocol.actor import ACTORS
from protocol.spaces import Continuous, Discrete, GameSpec, Observation

Precision = Literal["float32", "bfloat16"]

HYBRID: dict[str, Any] = {
    "rows": 8192, "inputs": 171, "hidden": [256, 256, 128, 128], "choices": 4, "threads": 2
}  # fmt: skip
"""The older system's hybrid network."""

OLDER_UPDATES_PER_S = 7.05
"""What the older system made of it (docs/benchmarks.md), on another machine of the same kind."""

SHAPES: tuple[dict[str, Any], ...] = (
    HYBRID,
    HYBRID | {"precision": "bfloat16"},
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
        sizes = {"precision": "float32"} | shape
        row = {"case": "learner", "device": device, **sizes}
        del sizes["threads"]
        row |= _measure(device, rounds, **sizes)
        if HYBRID.items() <= shape.items():
            row["updates_of_older"] = round(row["updates_per_s"] / OLDER_UPDATES_PER_S, 2)
        yield row
    torch.set_num_threads(before)


def _measure(
    device: str,
    rounds: int,
    rows: int,
    inputs: int,
    hidden: list[int],
    choices: int,
    precision: Precision,
) -> dict[str, float]:
    spec = GameSpec(
        "bench",
        Observation("float32", (inputs,)),
        (Discrete("choice", choices), Continuous("axis", -0.9, 0.9, 1)),
    )
    batch = random_batch(spec, rows).to(device)
    tagged = learner(spec, hidden, "per_actor", device, precision)
    plain = learner(spec, hidden, "off", device, precision)
    plain._diagnostics.update = lambda *_: None  # type: ignore[method-assign]
    dtype = getattr(torch, precision)
    left, right = torch.randn(8192, 256).to(device, dtype), torch.randn(256, 256).to(device, dtype)
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


def learner(
    spec: GameSpec,
    hidden: list[int],
    mode: str,
    device: str,
    precision: Precision = "float32",
) -> Learner:
    """A learner whose next steps measure no gradient norms."""
    settings = LearnerConfig(hidden=tuple(hidden), grad_norm_every=10**9, precision=precision)
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
    (observation,) = spec.observations
    shape = (n, *observation.shape)
    return Batch(
        states=(torch.randn(shape),),
        discrete=torch.stack([torch.randint(0, head.n, (n,)) for head in spec.discrete], 1),
        continuous=torch.rand(n, len(spec.continuous_columns)) - 0.5,
        recommended=torch.full((n, spec.action_width), torch.nan),
        rewards=torch.randn(n),
        returns=torch.randn(n),
        next_states=(torch.randn(shape),),
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
