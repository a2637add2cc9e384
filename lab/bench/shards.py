"""Learners that make each step together, each with its own replay, and one that has all rows.

Used by `lab.bench.ranks`, and by the tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agent.collective import ALONE, Collective
from agent.learner import Learner
from agent.priority import Priorities
from agent.replay import Replay
from agent.step import StepBlock
from agent.storage import gather
from config.models import AdvantageConfig, ImitationConfig, LearnerConfig, Schedule
from protocol.actor import Actor
from protocol.spaces import Continuous, Discrete, GameSpec, Observation

Numbers = npt.NDArray[Any]

SPEC = GameSpec(
    "g",
    Observation("float32", (6,)),
    (Discrete("fire", 4), Continuous("aim", -0.9, 0.9, 1)),
)
NO_CLONING = ImitationConfig(expert=Schedule(start=0.0, end=0.0, frames=1))
CAPACITY, BATCH = 4000, 48
UPDATES = 100


@dataclass(frozen=True)
class RanksCase:
    """How is learnt."""

    learner: Mapping[str, Any] = field(default_factory=dict)
    advantage: Mapping[str, Any] = field(default_factory=dict)
    shares: Mapping[Actor, float] = field(default_factory=dict)
    priority_alpha: float | None = None
    imitation: ImitationConfig = NO_CLONING


CASES = {
    "uniform": RanksCase(),
    "prioritized": RanksCase(priority_alpha=0.6),
    "shares": RanksCase(priority_alpha=0.6, shares={Actor.EXPERT: 0.25}),
    "uniform shares, all compared": RanksCase(
        shares={Actor.EXPERT: 0.4}, advantage={"mode": "global", "signal": "return"}
    ),
    "normalized observations": RanksCase(
        learner={"normalize_observations": True}, advantage={"normalize": True}
    ),
    "values in units of the game": RanksCase(
        learner={"normalize_values": False, "grad_norm_every": 7}
    ),
}


def rows(rank: int, n: int, seed: int) -> StepBlock:
    """`n` steps of two streams of this rank, in which the expert earns more."""
    rng = np.random.default_rng([rank, seed])
    block = StepBlock.empty(SPEC, n)
    block.obs[:] = rng.normal(rank, 1 + rank, block.obs.shape)
    block.actor[:] = np.where(rng.random(n) < 0.3, Actor.EXPERT, Actor.DQN)
    block.action[:, 0] = rng.integers(0, 4, n)
    block.action[:, 1] = rng.uniform(-0.9, 0.9, n)
    block.reward[:] = rng.normal(block.actor, 1)
    block.kind[:] = 1
    block.status[:] = rng.random(n) < 0.05
    block.stream[:] = (2 * rank + np.arange(n) % 2 + 1) << 16
    block.seq[:] = seed * n + np.arange(n)
    return block


class RanksWorld:
    """A replay and a learner, and what it drew: of each update which rows, in order."""

    def __init__(self, case: RanksCase, collective: Collective = ALONE) -> None:
        self.replay = Replay(
            SPEC, CAPACITY, n_step=3, gamma=0.97, actor_share=case.shares, seed=3 + collective.rank,
            priority_alpha=case.priority_alpha, collective=collective,
        )  # fmt: skip
        self.replay.beta = 0.7
        # Unequal seeds: they begin as the first rank does.
        self.learner = Learner(
            SPEC, LearnerConfig(hidden=(16, 8), learning_rate=1e-3, **case.learner),
            AdvantageConfig(**case.advantage), case.imitation, device="cpu",
            seed=1 + collective.rank, collective=collective,
        )  # fmt: skip
        self.first = self.learner.state_dict()
        """What it began as. Ranks in threads share torch's generator: seeds say little."""
        self.drawn: list[tuple[Numbers, Numbers]] = []

    def take(self, block: StepBlock) -> None:
        self.replay.append(block)
        self.learner.observe(block.obs)

    def update(self) -> None:
        batch = self.replay.sample(BATCH)
        self.drawn.append(self.replay.identify(batch.indices))
        td_errors = self.learner.step(batch)
        if self.replay.prioritized:
            self.replay.update_priorities(batch.indices, td_errors)


def learn_as_rank(case: RanksCase, collective: Collective) -> RanksWorld:
    """What one of two ranks does: it gets three of four rows, or the others, at each tenth
    update; the second one has none at first."""
    world = RanksWorld(case, collective)
    for update in range(UPDATES):
        if update % 10 == 0 and (collective.rank == 0 or update):
            world.take(rows(collective.rank, (90, 30)[collective.rank], update))
        world.update()
    return world


def learn_alone(
    case: RanksCase,
    first: dict[str, Any],
    drawn: list[list[tuple[Numbers, Numbers]]],
) -> RanksWorld:
    """One learner that begins as they did, has all rows, and learns from those that the ranks drew,
    together."""
    world = RanksWorld(case)
    world.learner.load_state_dict(first)
    for update in range(UPDATES):
        for rank in (0, 1):
            if update % 10 == 0 and (rank == 0 or update):
                world.take(rows(rank, (90, 30)[rank], update))
        streams, seqs = (
            np.concatenate(part) for part in zip(*(of[update] for of in drawn), strict=True)
        )
        with told_to_draw(world.replay, streams, seqs):
            world.update()
    return world


@contextmanager
def told_to_draw(replay: Replay, streams: Numbers, seqs: Numbers) -> Iterator[None]:
    """Let the next batch have these rows; how many of each group, and what they weigh, is still
    the replay's to say."""
    there = replay._places_by_age()
    known = {
        key: int(place)
        for place, *key_ in zip(there, *replay._rows.identify(there), strict=True)
        for key in [tuple(map(int, key_))]
    }
    wanted = torch.tensor([known[int(a), int(b)] for a, b in zip(streams, seqs, strict=True)])
    actors = torch.from_numpy(replay._actors.complete_actors(wanted.numpy())).long()

    def of_group(group: tuple[Any, int]) -> Tensor:
        who, n = group
        places = wanted[torch.isin(actors, torch.tensor([int(each) for each in who]))]
        assert len(places) == n, f"{n} rows of {who} were to be drawn, ranks drew {len(places)}"
        return places

    def uniform(group: tuple[Any, int]) -> tuple[Tensor, Tensor]:
        places = of_group(group)
        return places, gather(replay._rows.meta, places)

    plain = Priorities.draw

    def by_priority(self: Priorities, groups: Any, rng: Any) -> tuple[Tensor, Tensor]:
        left = iter(groups)

        def leaves(*_: Any) -> tuple[Tensor, Tensor]:
            places = of_group(next(left))
            who = torch.from_numpy(replay._actors.complete_actors(places.numpy()))
            at = self._leaves(places, who)
            return at, self._tree.leaves[at]

        with patch.object(self._tree, "draw", leaves):
            return plain(self, groups, rng)

    with patch.object(replay, "_uniform", uniform), patch.object(Priorities, "draw", by_priority):
        yield
