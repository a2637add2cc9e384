"""Choices in observations to a row of numbers: one-hot, or, where there are many, an embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agent.looks import ONE_HOT, WIDTH, Look


class Choices(nn.Module):
    """Each element is one of its own number of choices; what is none of them is all zeros in
    one-hot form, and the nearest choice in an embedding."""

    _element: Tensor
    _choice: Tensor
    _first: Tensor
    _last: Tensor

    def __init__(self, look: Look) -> None:
        super().__init__()
        sizes = torch.tensor(look.observation.choices * look.stack, dtype=torch.int64)
        total = int(sizes.sum())
        first = sizes.cumsum(0) - sizes
        self.embedding: nn.Embedding | None = None
        if total > ONE_HOT:
            self.embedding = nn.Embedding(total, WIDTH)
            constants = {"_first": first, "_last": sizes - 1}
        else:
            element = torch.arange(len(sizes)).repeat_interleave(sizes)
            constants = {"_element": element, "_choice": torch.arange(total) - first[element]}
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)
        self.size = len(sizes) * WIDTH if self.embedding else total
        """Numbers that come out for each observation."""

    def forward(self, part: Tensor) -> Tensor:
        """Integers [B, (k,) *shape] -> float32 [B, size]."""
        chosen = part.flatten(1).long()
        if self.embedding is not None:
            places = torch.minimum(chosen.clamp(min=0), self._last) + self._first
            found: Tensor = self.embedding(places)
            return found.flatten(1).float()
        return (chosen.index_select(1, self._element) == self._choice).float()
