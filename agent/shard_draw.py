"""Drawing a batch from several replays as from one: how many rows of each group each rank draws.

    n_r ~ multinomial(n, M_r / sum of M over the ranks)

for a group of actors of which n rows are drawn, M_r being what rank r has of it: the sum of the
priorities, or the number of complete steps. All ranks throw the same dice, so nobody has to be
told. Together with the draws within each rank, that is the draw of agent.sampler and agent.priority
from all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from agent.actor_index import ActorIndex
from agent.collective import Collective
from agent.sampler import Quota, groups_of
from protocol.actor import ACTORS, Actor


class ShardQuotas(NamedTuple):
    """What a rank is to draw of a batch."""

    groups: list[Quota]
    """Without those that it draws nothing of."""
    rates: Tensor
    """By actor, what its rows' priorities are to be multiplied by to get P of agent.priority up to
    a common factor, float64 [actors]."""


class _Counts:
    """Complete steps of all ranks."""

    def __init__(self, of_actors: list[float]) -> None:
        self._of_actors = dict(zip(ACTORS, of_actors, strict=True))

    def complete(self, actors: Iterable[Actor] = ACTORS) -> int:
        return int(sum(self._of_actors[who] for who in actors))


class ShardDraw:
    """The dice of all ranks, and what they have."""

    def __init__(self, collective: Collective) -> None:
        self._collective = collective
        self._rng: np.random.Generator | None = None

    def quotas(
        self, index: ActorIndex, masses: Tensor | None, shares: Mapping[Actor, float], size: int
    ) -> ShardQuotas:
        """Of the next batch, which has `size` rows in all ranks together. `masses`: the sums of
        this rank's priorities by actor, float64 [actors]; None where rows are drawn uniformly.

        ValueError where no rank has a complete step.
        """
        if self._rng is None:
            seeds = self._collective.gather(torch.randint(2**31, (1,)).double())
            self._rng = np.random.default_rng(int(seeds[0, 0]))
        counts = torch.tensor([index.complete((who,)) for who in ACTORS], dtype=torch.float64)
        of_rank = counts if masses is None else masses.cpu()
        told = self._collective.gather(torch.cat((counts, of_rank))).view(-1, 2, len(ACTORS))
        known = _Counts(told[:, 0].sum(0).tolist())
        if not known.complete():
            raise ValueError("nothing to sample: no learner has a step that is complete")
        mine: list[Quota] = []
        rates = torch.zeros(len(ACTORS), dtype=torch.float64)
        for actors, n in groups_of(known, shares, size):
            columns = [ACTORS.index(who) for who in actors]
            of_ranks = told[:, 1, columns].sum(1)
            rates[columns] += n / of_ranks.sum()
            odds = (of_ranks / of_ranks.sum()).numpy()
            drawn = int(self._rng.multinomial(n, odds)[self._collective.rank])
            if drawn:
                mine.append((actors, drawn))
        return ShardQuotas(mine, rates)

    def smallest(self, probabilities: Tensor) -> Tensor:
        """The smallest of all ranks' probabilities of a batch, float64 [b], []."""
        least = probabilities.new_full((1,), torch.inf).double()
        if len(probabilities):
            least = probabilities.amin().double()[None]
        return self._collective.gather(least.cpu()).amin().to(probabilities.device)

    def largest(self, number: Tensor) -> Tensor:
        """The largest of all ranks' numbers [], []."""
        return self._collective.gather(number.double().cpu()[None]).amax().to(number)
