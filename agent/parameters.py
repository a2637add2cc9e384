"""All parameters of a network in one flat vector, and a copy of them in bfloat16.

One vector makes clipping, Adam, the target update and publishing weights one operation each.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from agent.networks import QNetwork


def flatten_parameters(network: nn.Module) -> Tensor:
    """Move all parameters of a network into one flat tensor [n], of which they become views, in the
    order of `torch.nn.utils.parameters_to_vector`."""
    parameters = list(network.parameters())
    flat = torch.cat([p.detach().reshape(-1) for p in parameters])
    for parameter, view in zip(parameters, parameter_views(flat, network), strict=True):
        parameter.data = view
    return flat


def parameter_views(vector: Tensor, network: nn.Module) -> list[Tensor]:
    """A vector [n] as tensors of the shapes of the network's parameters, in their order; views."""
    parameters = list(network.parameters())
    parts = torch.split(vector, [p.numel() for p in parameters])
    return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]


class Bfloat16Copy:
    """A copy of a network whose learnt parameters are bfloat16.

    One cast of one vector in each step, where autocast makes one for each layer and pass.
    """

    def __init__(self, network: QNetwork, vector: Tensor) -> None:
        """`network`: whose layout is copied, with its own mark on the parameters that learn.
        `vector`: the values, float32 [n] as of `flatten_parameters`, of that network or of another
        with the same layout (the target network, none of whose parameters is marked). Parameters
        that do not learn (statistics of the observations) stay shared with it and float32."""
        self._float32 = vector.detach()
        self._bfloat16 = self._float32.to(torch.bfloat16)
        self.network = copy.deepcopy(network)
        halves = parameter_views(self._bfloat16, network)
        wholes = parameter_views(self._float32, network)
        for parameter, half, whole in zip(self.network.parameters(), halves, wholes, strict=True):
            parameter.data = half if parameter.requires_grad else whole

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the vector as it is now."""
        self._bfloat16.copy_(self._float32)
