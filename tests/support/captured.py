"""A replay and a learner whose updates are captured, on the cpu or on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import pytest
import torch

from agent.captured import Tapes
from agent.captured_updates import CapturedUpdates
from agent.cuda_graph import GraphMemory
from agent.evidence import Evidence
from agent.factory import make_learner, make_replay
from agent.step import STEP, StepBlock
from agent.training_step import learn, take_in
from config.load import config_from
from config.models import Config
from protocol.messages import TERMINATED
from protocol.spaces import Continuous, Discrete, GameSpec, Head, Observation

T = TypeVar("T")

CPU = "cpu"
GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)
DEVICES = [CPU, GPU]
"""Each with the same code; scripts/check-gpu runs those of the mark `gpu`."""

HEADS: tuple[Head, ...] = (Discrete("fire", 4), Continuous("aim", -0.9, 0.9, 2))


class Plain:
    """Captures nothing: calls the function whenever a captured call would run."""

    def begin(self, function: Callable[[], T]) -> T:
        return function()

    def capture(self, function: Callable[[], T]) -> Called[T]:
        return Called(function)


class Called(Generic[T]):
    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self.run()

    def run(self) -> None:
        self.result = self._function()


def spec_of(
    observation: Observation | None = None, heads: tuple[Head, ...] = HEADS, **more: Any
) -> GameSpec:
    return GameSpec("g", observation or Observation("float32", (6,)), heads, **more)


def rows_of(spec: GameSpec, first: int, n: int, streams: int = 4) -> StepBlock:
    """Frames of a few games, the same whenever they are asked for; each 20th ends its episode."""
    rng = np.random.default_rng(first)
    block = StepBlock.empty(spec, n)
    shape = block.obs.shape
    is_real = block.obs.dtype.kind == "f"
    block.obs[:] = rng.standard_normal(shape) if is_real else rng.integers(0, 3, shape)
    block.action[:] = rng.uniform(np.maximum(spec.low, 0), np.maximum(spec.low, 0) + 0.5)
    for column, head in zip(spec.discrete_columns, spec.discrete, strict=True):
        block.action[:, column] = rng.integers(0, head.n, n)
    block.recommended[:] = np.where(rng.random((n, 1)) < 0.5, block.action, np.nan)
    if spec.masks:
        block.legal[:] = 255
    block.reward[:] = rng.standard_normal(n)
    block.kind[:] = STEP
    block.actor[:] = rng.integers(1, 3, n)
    frame = first + np.arange(n)
    block.stream[:], block.seq[:] = frame % streams, frame // streams
    block.status[block.seq % 20 == 19] = TERMINATED
    return block


class CapturedWorld:
    """It plays rows that depend on nothing and learns from them."""

    def __init__(
        self, spec: GameSpec, device: str = CPU, *, capturer: Any = None, **settings: Any
    ) -> None:
        """`capturer`: None: what the device has. `settings`: with `__` for the dot."""
        given = {
            "run.seed": 3, "trainer.min_steps": 100, "learner.hidden": [16, 8],
            "learner.batch_size": 16, "learner.grad_norm_every": 5,
            # What changes from one update to the next must not become part of what is captured.
            "imitation.expert.start": 1.0, "imitation.expert.end": 0.2,
            "imitation.expert.frames": 600, "imitation.decay": "schedule",
            "replay.priority_beta.frames": 600, "replay.capacity_steps": 500,
            "replay.device": device, "trainer.device": device,
        }  # fmt: skip
        more = {name.replace("__", "."): value for name, value in settings.items()}
        self.config: Config = config_from(given | more)
        self.spec, self.device = spec, torch.device(device)
        self.replay = make_replay(self.config, spec, self.device)
        self.replay.wait_for_nothing()
        self.learner = make_learner(self.config, spec, self.device)
        if capturer is None:
            on_gpu = self.device.type == "cuda"
            capturer = GraphMemory(self.device, [self.replay.generator]) if on_gpu else Tapes()
        self.captured = CapturedUpdates(self.replay, self.learner, capturer)
        self.evidence, self.played = Evidence(), 0

    def play(self, rows: int) -> None:
        take_in(rows_of(self.spec, self.played, rows), self.replay, self.learner, self.evidence)
        self.played += rows

    def learn(self, updates: int) -> None:
        for batch in learn(
            self.config, self.replay, self.learner, self.device, self.played, self.evidence,
            updates, self.captured,
        ):  # fmt: skip
            assert len(batch) == self.config.learner.batch_size

    def run(self) -> None:
        """Some updates, alone and many at once, while rows come and old ones go. Never do all
        episodes end at once: drawing would be planned otherwise, and captured anew."""
        self.play(200)
        for due in (2, 16, 36):
            self.learn(due)
            self.play(128)
