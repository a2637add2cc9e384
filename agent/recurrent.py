"""The memory of the past: a recurrent state, which each frame changes.

It is a GRU (Cho et al. 2014, arXiv:1406.1078), in the form that PyTorch and cuDNN have. With what
a frame shows, x, and the state before it, h:

    r, z = sigmoid(W x + b + U h + c)            the first two thirds of the rows
    n    = tanh(W x + b + r * (U h + c))         the last third
    h'   = (1 - z) * n + z * h
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KEEP = 1e4
"""What makes sigmoid 1: a gate that keeps the state as it is."""


class RecurrentMemory(nn.Module):
    """A state of `size` numbers that goes on with each frame of `inputs` numbers. Weights may be
    bfloat16; states and what comes out are float32."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.read = nn.Linear(inputs, 3 * size)
        """W and b."""
        self.recall = nn.Linear(size, 3 * size)
        """U and c."""

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """The states behind frames [B, inputs], [B, size]; `state` [B, size]: those before them."""
        return self._step(self._read(x), state)

    def unroll(self, x: Tensor, real: Tensor, state: Tensor) -> Tensor:
        """The states behind T frames each, [B, size]: x [T, B, inputs]. Where `real`, bool [T, B],
        is False there is no frame, and the state stays as it is."""
        read = self._read(x)
        kept = read[..., self.size : 2 * self.size].masked_fill(~real[..., None], KEEP)
        read = torch.cat((read[..., : self.size], kept, read[..., 2 * self.size :]), dim=2)
        for each in read:
            state = self._step(each, state)
        return state

    def _read(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.read.weight.dtype), self.read.weight, self.read.bias).float()

    def _step(self, read: Tensor, state: Tensor) -> Tensor:
        recall = self.recall
        recalled = F.linear(state.to(recall.weight.dtype), recall.weight, recall.bias).float()
        gates = 2 * self.size
        r, z = (read[:, :gates] + recalled[:, :gates]).sigmoid().chunk(2, dim=1)
        new = torch.addcmul(read[:, gates:], r, recalled[:, gates:]).tanh()
        return torch.lerp(new, state, z)
