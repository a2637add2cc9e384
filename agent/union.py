"""The union of the batches of all ranks: what an update needs to know of the others' rows.

Each rank learns from rows of its own, and the step is that of one machine on all of them: sums,
means and deviations are gathered, never averaged. Where a rank is alone nothing is gathered.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agent import advantage
from agent.collective import ALONE, Collective, check_same
from agent.normalizer import RunningStatistics
from config.models import AdvantageConfig
from protocol.actor import ACTORS

CHECK_EVERY = 100
"""Updates between two comparisons of the ranks' parameters, which wait for the device."""


class Union:
    """Numbers of all ranks' batches. Every rank asks for the same ones in the same order; a rank
    may have a batch without rows."""

    def __init__(self, collective: Collective = ALONE) -> None:
        self._collective = collective

    @property
    def alone(self) -> bool:
        """Whether a batch is all there is."""
        return self._collective.size == 1

    @property
    def rank(self) -> int:
        """Of this learner."""
        return self._collective.rank

    def begin(self, parameters: Tensor) -> None:
        """Let all ranks begin with the first one's parameters, in place."""
        if self._collective.rank:
            parameters.zero_()
        self._collective.add(parameters)

    def check(self, parameters: Tensor, updates: int) -> None:
        """Now and then: errors as of check_same."""
        if not self.alone and updates % CHECK_EVERY == 0:
            check_same(self._collective, parameters)

    def add(self, gradient: Tensor) -> None:
        """The sum over all ranks takes the gradient's place, as exact as the ranks add gradients up
        (Collective.gradients)."""
        dtype = self._collective.gradients
        if self.alone or dtype == gradient.dtype:
            self._collective.add(gradient)
            return
        rounded = gradient.to(dtype)
        self._collective.add(rounded)
        gradient.copy_(rounded)

    def rows(self, rows: int) -> int:
        """Rows of all batches together."""
        if self.alone:
            return rows
        return int(self._collective.gather(torch.tensor([rows], dtype=torch.float64)).sum())

    def total(self, number: Tensor | float) -> Tensor | float:
        """The sum of a number [] of each rank."""
        if self.alone:
            return number
        number = torch.as_tensor(number)
        return self._gathered(number[None]).sum().to(number)

    def any(self, flags: Tensor) -> Tensor:
        """Whether any flag [b] of any rank is set, bool []."""
        if self.alone:
            return flags.any()
        return self._gathered(flags.any()[None]).sum() > 0

    def variance(self, values: Tensor) -> Tensor:
        """Of the values [b] of all ranks, by their number, []."""
        if self.alone:
            return values.var(correction=0)
        groups = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        count, _, squares, _ = self._moments(values, groups, 1)
        return (squares / count).squeeze(0).to(values)

    @torch.no_grad()
    def advantage_weights(
        self, signal: Tensor, actors: Tensor, settings: AdvantageConfig
    ) -> Tensor:
        """The weight of each row, as by agent.advantage over the rows of all ranks, float32 [b];
        `signal` and `actors` [b]."""
        limits = {
            "beta": settings.beta,
            "clip": settings.clip,
            "weight_min": settings.weight_min,
            "weight_max": settings.weight_max,
        }
        if self.alone or settings.mode == "off":
            weights = advantage.advantage_weights(signal, actors, mode=settings.mode, **limits)
            return advantage.normalize_weights(weights, actors) if settings.normalize else weights
        signal, groups = signal.float(), actors - ACTORS[0]
        compared = groups if settings.mode == "per_actor" else torch.zeros_like(groups)
        count, mean, squares, largest = self._moments(signal, compared, len(ACTORS))
        std = (squares / (count - 1).clamp_min(1)).sqrt()
        residual = (signal.double() - mean[compared]).float()
        weights = advantage.weights_of(
            residual, std.float()[compared], largest.float()[compared], **limits
        )
        if settings.normalize:
            count, mean, _, _ = self._moments(weights, groups, len(ACTORS))
            weights = weights / mean.float()[groups]
        return weights

    def merged(self, own: RunningStatistics) -> RunningStatistics:
        """Those of all ranks' observations together; `own` where it is alone."""
        if self.alone:
            return own
        each = self._collective.gather(torch.from_numpy(own.moments())).numpy()
        merged = RunningStatistics(len(own.mean))
        for moments in each:
            merged.merge(*moments.reshape(3, -1))
        return merged

    def _moments(self, values: Tensor, groups: Tensor, n: int) -> tuple[Tensor, ...]:
        """Number, mean, squares of the deviations from it added up, and largest magnitude of each
        of n groups, float64 [n] each; `values` and `groups` [b], those within 0 to n-1. They are
        merged as in agent.normalizer."""
        values = values.detach().double()
        zeros = values.new_zeros(n)
        count = zeros.index_add(0, groups, torch.ones_like(values))
        mean = zeros.index_add(0, groups, values) / count.clamp_min(1)
        squares = zeros.index_add(0, groups, (values - mean[groups]).square())
        largest = zeros.scatter_reduce(0, groups, values.abs(), "amax")
        each = self._gathered(torch.cat((count, mean, squares, largest))).view(-1, 4, n)
        counts, means = each[:, 0], each[:, 1]
        count = counts.sum(0)
        mean = (counts * means).sum(0) / count.clamp_min(1)
        squares = (each[:, 2] + counts * (means - mean).square()).sum(0)
        return count, mean, squares, each[:, 3].amax(0)

    def _gathered(self, numbers: Tensor) -> Tensor:
        """Of each rank, float64 [ranks, n] on the device that they come from."""
        told = self._collective.gather(numbers.detach().to("cpu", torch.float64))
        return told.to(numbers.device)
