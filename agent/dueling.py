"""Dueling values (Wang et al. 2016, arXiv:1511.06581): V + A - mean(A), and its gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MOST = 64
"""Choices up to which it is one product instead of two: it grows with their square, but a call
costs small batches more than its arithmetic."""


class Dueling(nn.Module):
    """From the last layer's outputs to K numbers for each choice. It learns nothing.

    The outputs are the value of the state, K numbers, then the advantages of all choices of all
    branches, K each, then others, which are none of its business.
    """

    one_product: Tensor
    _back: Tensor
    _of_branch: Tensor
    _mean: Tensor
    _value_less_mean: Tensor

    def __init__(self, sizes: Sequence[int], atoms: int, others: int) -> None:
        """`sizes`: choices of each branch. `atoms`: K. `others`: outputs behind them."""
        super().__init__()
        self._atoms, self._others, self._choices = atoms, others, sum(sizes)
        self._in_one = atoms == 1 and 0 < self._choices <= MOST
        n = torch.tensor(sizes, dtype=torch.int64)
        of_branch = torch.eye(len(sizes)).repeat_interleave(n, dim=1, output_size=self._choices)
        mean = of_branch / n[:, None]
        product = torch.empty(0)
        if self._in_one:
            less = torch.eye(self._choices) - mean.T @ of_branch
            product = torch.cat(
                [torch.ones(1, self._choices), less, torch.zeros(others, self._choices)]
            )
        for name, constant in {
            "one_product": product,  # [outputs, choices]
            "_back": product.T.contiguous() if self._in_one else torch.empty(0),
            "_of_branch": of_branch,  # [branches, choices]
            "_mean": mean,
            "_value_less_mean": torch.cat([torch.ones(1, len(sizes)), -mean.T]),
        }.items():
            self.register_buffer(name, constant, persistent=False)

    def forward(self, outputs: Tensor) -> Tensor:
        """Of outputs [B, n]: [B, choices, K], or, where K is 1, [B, choices]. Without branches
        those of the state, as of one choice."""
        atoms = self._atoms
        if not self._choices:
            return self.of_state(outputs)
        if self._in_one:
            return outputs @ self.one_product
        if atoms == 1:
            dueling = outputs[:, : 1 + self._choices]
            value_less_mean = dueling @ self._value_less_mean
            return torch.addmm(dueling[:, 1:], value_less_mean, self._of_branch)
        advantages = outputs[:, atoms : atoms * (1 + self._choices)].reshape(
            outputs.shape[0], self._choices, atoms
        )
        mean = torch.einsum("hc,bck->bhk", self._mean, advantages)
        value = outputs[:, None, :atoms]
        less = torch.einsum("hc,bhk->bck", self._of_branch, value - mean)
        return advantages + less

    def of_state(self, outputs: Tensor) -> Tensor:
        """The value of the state, as of one choice."""
        return outputs[:, :1] if self._atoms == 1 else outputs[:, None, : self._atoms]

    def backward(self, gradient: Tensor, of_others: Tensor | None) -> Tensor:
        """From the gradient of what `forward` made, that of the outputs, [B, n]. `of_others`: of
        the others, [B, others]; None: zeros."""
        if self._in_one:
            found = gradient @ self._back
            if of_others is not None:
                found[:, -self._others :] = of_others
            return found
        parts = [gradient.flatten(1)]
        if self._choices:
            each = gradient if gradient.dim() == 3 else gradient[:, :, None]
            of_branches = torch.einsum("hc,bck->bhk", self._of_branch, each)
            advantages = each - torch.einsum("hc,bhk->bck", self._mean, of_branches)
            parts = [of_branches.sum(1), advantages.flatten(1)]
        if of_others is not None:
            parts.append(of_others)
        elif self._others:
            parts.append(gradient.new_zeros(len(gradient), self._others))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
