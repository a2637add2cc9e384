"""Bench of a GPU's updates: rows drawn from a large replay, weighted, learnt from, by priority too.

`updates_per_s` counts whole updates as the trainer makes them (agent.training_step), with captured
graphs and without. `bound_ms` is the time of the products of an update at the rate of a product of
8,192 rows, and `achieved` what that is of an update.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent import checkpoint
from agent.captured import Tapes
from agent.captured_updates import CapturedUpdates, captured_updates
from agent.device import free_memory, synchronize
from agent.evidence import Evidence
from agent.factory import make_learner, make_replay
from agent.game_memory import device_bytes
from agent.learner import Learner
from agent.replay import Replay
from agent.step import STEP, StepBlock
from agent.training_step import learn
from agent.value_scale import EVERY
from config.load import config_from
from config.models import Config
from lab.bench.learner import best_of
from protocol.spaces import Discrete, GameSpec, Observation

Row = dict[str, Any]

BLOCK = 16_384
"""Rows that are appended at a time."""

GOAL, GOAL_ROWS = 5_000_000, 8192
"""Samples a second that a GPU is to learn from, in updates of so many rows."""


@dataclass(frozen=True)
class Sizes:
    """What is measured, and how long."""

    capacity: int = 10_000_000
    observations: int = 195
    hidden: tuple[int, ...] = (512, 512, 256)
    choices: int = 44
    batches: tuple[int, ...] = (8192, 768)
    demo: tuple[int, int, tuple[int, ...], int] = (128, 8, (128, 128), 4)
    """Rows, numbers, layers and choices of the demo's game."""
    seconds: float = 3.0
    """Of each measurement, at least."""
    due: int = 5 * EVERY
    """Updates that are due at a time."""
    precisions: tuple[str, ...] = ("float32", "tf32", "bfloat16")


SMALL = Sizes(
    capacity=2000, observations=6, hidden=(8,), choices=3, batches=(32,), demo=(16, 4, (8,), 2),
    seconds=0.001, due=EVERY, precisions=("float32",),
)  # fmt: skip
"""To see that it runs."""


def measure(device: str, sizes: Sizes, show: Callable[[str], None]) -> Iterator[Row]:
    """Rows for each of the batches by priority, the first of them in each precision, and without
    graphs; and of the demo's game, uniformly too."""
    spec = GameSpec(
        "bench", Observation("float32", (sizes.observations,)), (Discrete("act", sizes.choices),)
    )
    values = {"learner.hidden": list(sizes.hidden), "learner.batch_size": sizes.batches[0]}
    base = _fitted(spec, _config(device, sizes.capacity, values), device)
    show(f"a replay of {base.replay.capacity_steps} steps on {device}")
    replay, row = _filled(base, spec, device)
    yield row
    _, *others = sizes.batches
    cases: list[Row] = [{"learner.precision": precision} for precision in sizes.precisions]
    cases += [{"learner.batch_size": size} for size in others]
    cases += [{"trainer.cuda_graphs": False, "learner.batch_size": n} for n in sizes.batches]
    for changes in cases:
        show(f"updates on {device}: {changes}")
        capacity = {"replay.capacity_steps": base.replay.capacity_steps}
        config = _config(device, sizes.capacity, values | capacity | changes)
        yield _measured(config, spec, replay, device, sizes)
    del replay
    rows, numbers, layers, choices = sizes.demo
    spec = GameSpec("demo", Observation("float32", (numbers,)), (Discrete("act", choices),))
    values = {"learner.hidden": list(layers), "learner.batch_size": rows}
    for prioritized in (False, True):
        more = {"replay.prioritized": prioritized}
        config = _config(device, min(sizes.capacity, 100_000), values | more)
        show(f"updates of the demo's game on {device}")
        replay, _ = _filled(config, spec, device)
        yield _measured(config, spec, replay, device, sizes)


def _config(device: str, capacity: int, values: Row) -> Config:
    given = {
        "run.seed": 1, "trainer.device": device, "replay.device": device, "trainer.min_steps": 1000,
        "replay.capacity_steps": capacity, "replay.prioritized": True,
        "imitation.decay": "schedule", "imitation.expert.frames": 10**9,
    }  # fmt: skip
    return config_from(given | values)


def _fitted(spec: GameSpec, config: Config, device: str) -> Config:
    """With a replay that takes at most 70 % of what the GPU has free."""
    if torch.device(device).type != "cuda":
        return config
    free, _ = free_memory(device)
    needed = sum(sum(parts.values()) for parts in device_bytes(spec, config).values())
    steps = config.replay.capacity_steps
    fits = min(steps, int(steps * 0.7 * free / max(needed, 1)))
    return config.model_copy(
        update={"replay": config.replay.model_copy(update={"capacity_steps": fits})}
    )


def _filled(config: Config, spec: GameSpec, device: str) -> tuple[Replay, Row]:
    """A full replay, and how fast it was filled."""
    replay = make_replay(config, spec, torch.device(device))
    replay.wait_for_nothing()
    rng = np.random.default_rng(0)
    n = min(BLOCK, replay.capacity_steps)
    block = StepBlock.empty(spec, n)
    block.obs[:] = rng.standard_normal(block.obs.shape)
    block.action[:] = rng.integers(0, spec.discrete[0].n, block.action.shape)
    block.recommended[:] = np.where(rng.random((n, 1)) < 0.5, block.action, np.nan)
    block.reward[:] = rng.standard_normal(n)
    block.kind[:], block.actor[:] = STEP, rng.integers(1, 3, n)
    begun, streams, appended = time.perf_counter(), 32, 0
    while appended < replay.capacity_steps + n:
        frame = appended + np.arange(n)
        block.stream[:], block.seq[:] = frame % streams, frame // streams
        replay.append(block)
        appended += n
    synchronize(device)
    seconds = time.perf_counter() - begun
    return replay, {
        "case": "gpu replay",
        "device": device,
        "capacity_steps": replay.capacity_steps,
        "observations": spec.observations[0].size,
        "append_steps_per_s": round(appended / seconds),
        "gib": round(replay.nbytes / 2**30, 2),
    }


def _measured(config: Config, spec: GameSpec, replay: Replay, device: str, sizes: Sizes) -> Row:
    learner = make_learner(config, spec, torch.device(device))
    captured = captured_updates(config, replay, learner, torch.device(device))
    if torch.device(device).type == "cpu" and config.trainer.cuda_graphs:  # their twin
        captured = CapturedUpdates(replay, learner, Tapes())
    evidence, at = Evidence(), torch.device(device)
    peak = PeakMemory(at)

    def update(due: int) -> None:
        for _ in learn(config, replay, learner, at, 0, evidence, due, captured):
            pass
        synchronize(device)

    for _ in range(2):  # all that comes up has come up
        update(sizes.due)
    learner.metrics()
    begun, made = time.perf_counter(), 0
    while (took := time.perf_counter() - begun) < sizes.seconds:
        update(sizes.due)
        made += sizes.due
    metrics, size = learner.metrics(), config.learner.batch_size
    row: Row = {
        "case": "gpu update",
        "device": device,
        "batch_size": size,
        "observations": spec.observations[0].size,
        "hidden": list(learner.network.hidden),
        "choices": spec.choices,
        "precision": config.learner.precision,
        "prioritized": replay.prioritized,
        "graphs": captured is not None and captured.problem is None,
        "ms": round(took / made * 1e3, 4),
        "updates_per_s": round(made / took, 1),
        "samples_per_s": round(made / took * size),
        **_bound(learner, size, device, took / made),
        "save_ms": _save_ms(learner),
        "skipped": metrics["updates_skipped"],
    }
    if captured is not None and captured.problem:
        row["problem"] = captured.problem
    if config.trainer.cuda_graphs:
        row |= judged(row)
    return row | peak.row()


def judged(row: Row) -> Row:
    """The goal of a row of updates with graphs, and whether it is met; nothing where it has none:
    on the cpu, and of other batches."""
    if torch.device(row["device"]).type == "cpu" or row["batch_size"] != GOAL_ROWS:
        return {}
    return {"goal": GOAL, "ok": row["samples_per_s"] >= GOAL and "problem" not in row}


class PeakMemory:
    """The most that tensors held on a cuda device since this was made."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def row(self) -> Row:
        """`peak_gib`; nothing on other devices."""
        if self._device.type != "cuda":
            return {}
        return {"peak_gib": round(torch.cuda.max_memory_allocated(self._device) / 2**30, 2)}


def _bound(learner: Learner, rows: int, device: str, update_s: float) -> Row:
    """The time of an update's products: three passes, and back without the first layer's input."""
    network = learner.network
    dtype = torch.bfloat16 if learner._bfloat16_copies else torch.float32
    left, right = (torch.randn(n, 512).to(device, dtype) for n in (8192, 512))
    flops_per_s = 2 * 8192 * 512 * 512 / best_of(lambda: left @ right, device)
    inputs = int(network._trunk[0][0].shape[1])
    widths = [inputs, *network.hidden, network.heads.out_features]
    layers = [a * b for a, b in pairwise(widths)]
    bound_s = 2 * rows * (4 * sum(layers) + sum(layers[1:])) / flops_per_s
    return {"bound_ms": round(bound_s * 1e3, 4), "achieved": round(bound_s / update_s, 3)}


def _save_ms(learner: Learner) -> float:
    """How long updates wait while a checkpoint is written."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        checkpoint.save(Path(folder) / "c.pt", {"learner": learner.state_dict()})
        return round((time.perf_counter() - begun) * 1e3, 1)
