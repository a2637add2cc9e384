"""Whether a second learner pays: an update of one learner beside one that several share, measured
on the nodes that they would be on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch

from agent.collective import ALONE, Collective
from agent.device import resolve_device, synchronize, use_threads
from agent.evidence import Evidence
from agent.factory import make_learner, make_replay
from agent.step import STEP, StepBlock
from agent.training_step import learn
from config.models import Config
from protocol.actor import ACTORS
from protocol.spaces import GameSpec
from server.ipc.heartbeat import Heartbeat
from server.ipc.messages import Ranks
from server.trainer.ranks import Meeting

REPEATS, WARM_UP = 20, 3

BATCHES = 4
"""Batches of rows that are there to draw from."""


@dataclass(frozen=True)
class Costs:
    """Medians, in seconds."""

    alone_s: float
    """An update of one learner, from all rows of a batch."""
    shared_s: float
    """One that all learners make together, each from its part of as many rows."""
    sum_s: float
    """Of that, the sum of the gradients over the network, in float32."""
    sum_bfloat16_s: float
    """The same in bfloat16."""
    gather_s: float
    """A few numbers of each, told to all: an update does so several times."""
    parameters: int
    rows: int
    learners: int

    @property
    def pays(self) -> bool:
        """Whether more learners make more updates a second than one."""
        return self.shared_s < self.alone_s

    def sentence(self) -> str:
        """What was found, for people."""
        word = "pays" if self.pays else "does not pay"
        what = "A second learner" if self.learners == 2 else f"Having {self.learners} learners"
        return (
            f"{what} {word}: an update of {self.rows} rows takes {self.alone_s * 1e3:.1f} ms on "
            f"one, and {self.shared_s * 1e3:.1f} ms on {self.learners}, of which the sum of "
            f"{self.parameters / 1e6:.2f} million gradients is {self.sum_s * 1e3:.1f} ms "
            f"({self.sum_bfloat16_s * 1e3:.1f} ms in bfloat16)."
        )


def measure(ranks: Ranks, config: Config, spec: GameSpec) -> Costs:
    """What it costs on this machine, as one of the ranks. Each measures; the first one's count.
    Errors: RuntimeError where one does not come in time, or fails."""
    use_threads(config.trainer.threads, config.server.gateways)
    return costs(config, spec, Meeting(ranks, Heartbeat()).collective)


def costs(config: Config, spec: GameSpec, collective: Collective, repeats: int = REPEATS) -> Costs:
    """The same among these ranks. They measure what is one's alone one after the other: they may
    be on one machine."""
    device = resolve_device(config.trainer.device, "trainer.device")
    alone_s = 0.0
    for rank in range(collective.size):
        if rank == collective.rank:
            alone_s = _median(_update(config, spec, device, ALONE)[0], repeats)
        collective.gather(torch.zeros(1, dtype=torch.float64))
    update, parameters = _update(config, spec, device, collective)
    shared_s = _median(update, repeats)
    vector = torch.zeros(parameters, device=device)
    rounded, few = vector.bfloat16(), torch.zeros(24, dtype=torch.float64)
    return Costs(
        alone_s,
        shared_s,
        _median(lambda: collective.add(vector), repeats),
        _median(lambda: collective.add(rounded), repeats),
        _median(lambda: collective.gather(few), repeats),
        parameters,
        config.learner.batch_size,
        collective.size,
    )


def _update(
    config: Config, spec: GameSpec, device: torch.device, collective: Collective
) -> tuple[Callable[[], object], int]:
    """An update from rows that say nothing, its sampling included; and how many parameters the
    network has."""
    rows = BATCHES * config.learner.batch_size
    small = config.replay.model_copy(update={"capacity_steps": 2 * rows})
    config = config.model_copy(update={"replay": small})
    replay = make_replay(config, spec, device, collective)
    learner = make_learner(config, spec, device, collective)
    replay.append(meaningless(spec, rows, config.learner.state_size, collective.rank))
    evidence = Evidence()
    evidence.agreed = evidence.weight(config.imitation, 0)

    def once() -> None:
        list(learn(config, replay, learner, device, 0, evidence, 1))
        synchronize(device)

    return once, len(learner.policy_vector())


def meaningless(spec: GameSpec, rows: int, memory: int = 0, seed: int = 0) -> StepBlock:
    """Rows of one stream of any game, with random rewards and actors. `memory`: numbers of the
    network's recurrent state."""
    rng = np.random.default_rng(seed)
    block = StepBlock.empty(spec, rows, memory)
    block.action[:] = spec.low
    block.reward[:] = rng.standard_normal(rows)
    block.actor[:] = rng.choice(ACTORS, rows)
    block.kind[:] = STEP
    block.stream[:] = (seed + 1) << 16
    block.seq[:] = np.arange(rows)
    return block


def _median(work: Callable[[], Any], repeats: int) -> float:
    """Seconds that it takes. So often at all ranks: each waits for the others."""
    taken = []
    for _ in range(WARM_UP + repeats):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return median(taken[WARM_UP:])
