"""The network: a shared trunk, dueling Q-values for discrete heads, bounded continuous heads.

    observation ─▶ Linear ReLU … Linear ReLU ─▶ one Linear ─▶ value         1
                                                          ├─▶ advantages    one per choice
                                                          └─▶ tanh ─▶ continuous, within [low, high]

All heads are columns of one Linear: one matrix product instead of three.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agent.targets import best_choices
from protocol.spaces import GameSpec

Floats = npt.NDArray[np.float32]

INFINITY = np.float32(np.inf)
TINY = np.finfo(np.float32).tiny


class Outputs(NamedTuple):
    """What the network says of B observations; float32."""

    q: Tensor
    """Q of each choice, [B, choices of all discrete heads side by side]."""
    value: Tensor
    """Of the state, [B]: what the Q of each head has in common."""
    continuous: Tensor
    """The action of the continuous heads, [B, columns of all of them], within [low, high]."""


class QNetwork(nn.Module):
    """Dueling Q-values (Wang et al. 2016, arXiv:1511.06581) over a trunk shared by all heads.

    Linear layers keep PyTorch's default initialisation: it is the one under which the usual DQN
    settings (learning rate, target updates) were found, and its small outputs start the continuous
    heads in the middle of their range, where tanh has a gradient.
    """

    middle: Tensor
    """The middle of the range of each continuous column, [C]."""
    _half_range: Tensor
    _per_half_range: Tensor
    offsets: Tensor
    """Where each discrete head begins among the columns of `q`, int64 [heads]."""
    _head_of_choice: Tensor
    _value_less_mean: Tensor
    _order: Tensor

    def __init__(self, spec: GameSpec, hidden: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(head.n for head in spec.discrete)
        """Choices of each discrete head."""
        self._choices = sum(self.sizes)
        self._pixels = spec.observation.dtype == "uint8"
        # Discrete heads come first here; the action row has the order of the game.
        columns = [*spec.discrete_columns, *spec.continuous_columns]
        self._reorder = columns != sorted(columns)
        self._constants(spec, columns)

        widths = (spec.observation_size, *hidden)
        trunk = [nn.Linear(a, b) for a, b in pairwise(widths)]
        heads = nn.Linear(hidden[-1], 1 + self._choices + len(spec.continuous_columns))
        self.trunk = nn.ModuleList(trunk)
        self.heads = heads
        # For small batches, calling a module and looking up its parameters takes as long as its
        # product; a gateway has nothing but small batches.
        self._layers = [(layer.weight, layer.bias) for layer in (*trunk, heads)]

    def _constants(self, spec: GameSpec, columns: list[int]) -> None:
        """Tensors that follow the module to its device but are neither saved nor published."""
        sizes = torch.tensor(self.sizes, dtype=torch.int64)
        head_of_choice = torch.eye(len(sizes)).repeat_interleave(sizes, dim=1)
        mean = head_of_choice.T / sizes
        half, middle = _bounds(spec)
        for name, constant in {
            "middle": torch.from_numpy(middle),
            "_half_range": torch.from_numpy(half),
            # Of a range too narrow for float32 to halve or to divide by: 1 / inf, not inf.
            "_per_half_range": torch.from_numpy(1 / np.where(half >= TINY, half, INFINITY)),
            "offsets": sizes.cumsum(0) - sizes,
            "_head_of_choice": head_of_choice,
            "_value_less_mean": torch.cat([torch.ones(1, len(sizes)), -mean]),
            "_order": torch.tensor(columns).argsort(),
        }.items():
            self.register_buffer(name, constant, persistent=False)

    def forward(self, obs: Tensor) -> Outputs:
        """What to think of observations [B, *shape] (or flat), float32 or uint8."""
        raw = self.raw(obs)
        return Outputs(self.q(raw), raw[:, 0], self._scaled(self.unit(raw)))

    @torch.inference_mode()
    def greedy(self, obs: Tensor) -> Tensor:
        """The best action for each observation: action rows, float32 [B, action_width]."""
        raw = self.raw(obs)
        pieces: list[Tensor] = []
        if self.sizes:
            # V and the mean are the same for all choices of a head: the advantage alone decides.
            choices = best_choices(raw[:, 1 : 1 + self._choices], self.sizes)
            pieces.append(choices.to(torch.float32))
        if len(self.middle):
            pieces.append(self._scaled(self.unit(raw)))
        rows = torch.cat(pieces, dim=1) if len(pieces) > 1 else pieces[0]
        return rows.index_select(1, self._order) if self._reorder else rows

    def raw(self, obs: Tensor) -> Tensor:
        """The last layer: value, advantages, continuous heads before tanh, side by side,
        [B, 1 + choices + C]."""
        x = obs.flatten(1)
        if self._pixels:
            x = x * (1 / 255)
        *trunk, heads = self._layers
        for weight, bias in trunk:
            x = F.linear(x, weight, bias).relu_()
        return F.linear(x, *heads)

    def q(self, raw: Tensor) -> Tensor:
        """Q of each choice, [B, choices]: V + A - mean(A), the mean over the choices of a head."""
        dueling = raw[:, : 1 + self._choices]
        value_less_mean = dueling @ self._value_less_mean
        return torch.addmm(dueling[:, 1:], value_less_mean, self._head_of_choice)

    def unit(self, raw: Tensor) -> Tensor:
        """The continuous heads in units of half their range, [B, C] within -1 and 1."""
        return raw[:, 1 + self._choices :].tanh()

    def to_unit(self, continuous: Tensor) -> Tensor:
        """Continuous actions [B, C] in units of half their range."""
        return (continuous - self.middle) * self._per_half_range

    def _scaled(self, unit: Tensor) -> Tensor:
        return torch.addcmul(self.middle, self._half_range, unit)


def _bounds(spec: GameSpec) -> tuple[Floats, Floats]:
    """Half the range and the middle of each continuous column, float32 [C] each.

    Rounded so that middle + half and middle - half, computed in float32, stay within the range: an
    action must never lie outside its head.
    """
    columns = list(spec.continuous_columns)
    low, high = spec.low[columns], spec.high[columns]
    middle = ((low.astype(np.float64) + high) / 2).astype(np.float32)
    half = np.minimum(high.astype(np.float64) - middle, middle - low.astype(np.float64))
    half = half.astype(np.float32)
    while (outside := (middle + half > high) | (middle - half < low)).any():
        half[outside] = np.nextafter(half[outside], np.float32(0))
    return half, middle
