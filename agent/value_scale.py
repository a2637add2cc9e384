"""The scale of values: what rewards are divided by, so that values spread alike in every game."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agent.networks import QNetwork
from agent.union import Union

SPREAD = 10.0
"""The standard deviation that TD targets are to have. A margin of 1.5, errors that count as large
from 1 on, and the usual learning rates suit values that differ by some tens."""

EVERY = 10
"""Updates between two looks at it. A look is a few small operations: a tenth of them costs a small
network hardly anything."""

RATE = 0.05
"""How far a look moves the estimate, once there were enough."""

SMALLEST = 1e-6
"""Bound of the scale: what keeps a division finite."""


class ValueScale:
    """The running standard deviation of TD targets over SPREAD, and networks that go by it.

    A network learns values of rewards over the scale. When the scale changes, the last layer of
    both networks is multiplied so that what they say in units of the game stays the same: the
    output-preserving half of PopArt (van Hasselt et al. 2016, arXiv:1602.07714), without the shift
    of the mean, which a network's bias learns. Nothing here waits for the device.
    """

    def __init__(self, online: QNetwork, target: QNetwork, union: Union) -> None:
        """Both begin at the scale that they were made or loaded with. `union`: of the batches that
        it is told of."""
        self._union = union
        self._layers = [
            parameter[: online.value_outputs]
            for network in (online, target)
            for parameter in (network.heads.weight.detach(), network.heads.bias.detach())
        ]
        """What becomes values, of the last layers of both; views."""
        self.scale = online.value_scale
        self._of_target = target.value_scale
        self._looks = torch.zeros_like(self.scale)
        self._variance = torch.zeros_like(self.scale)

    @torch.no_grad()
    def begin(self, returns: Tensor) -> None:
        """Before the first update of a network that has learnt nothing: n-step returns [B]. Its
        guesses are worth nothing in any unit, so they do not count, and need not stay."""
        self._count(self._union.variance(returns), returns)
        self._set(self._estimate())

    @torch.no_grad()
    def look(self, targets: Tensor, returns: Tensor) -> Tensor:
        """Before an update: its TD targets [B] in units of the scale, n-step returns [B] in the
        game's. From now on there is another scale: what values in the old one are multiplied by,
        []."""
        self._count(self._union.variance(targets) * self.scale.square(), returns)
        scale = self._estimate()
        factor = self.scale / scale
        torch._foreach_mul_(self._layers, factor)
        self._set(scale)
        return factor

    def _count(self, variance: Tensor, returns: Tensor) -> None:
        """Take in the variance [] of a batch. One without a reward says nothing: its targets are
        guesses. A bad one must not destroy the scale: it counts for nothing, as its update does."""
        counts = (self._union.any(returns != 0) & variance.isfinite()).to(variance.dtype)
        self._looks += counts
        rate = counts * (1 / self._looks.clamp(min=1)).clamp_(min=RATE)
        self._variance.lerp_(variance.nan_to_num(), rate)

    def _estimate(self) -> Tensor:
        """The scale by what was seen, []."""
        scale = torch.where(self._looks > 0, self._variance.sqrt() / SPREAD, self.scale)
        return scale.clamp_(min=SMALLEST)

    def _set(self, scale: Tensor) -> None:
        self.scale.copy_(scale)
        self._of_target.copy_(scale)

    def state_dict(self) -> dict[str, Any]:
        """Copies on the cpu of what it goes on from; the networks keep the scale itself."""
        found = {"looks": self._looks, "variance": self._variance}
        return {name: tensor.to("cpu", copy=True) for name, tensor in found.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._looks.copy_(state["looks"])
        self._variance.copy_(state["variance"])
