"""Dueling values (Wang et al. 2016, arXiv:1511.06581) of small games in one product."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MOST = 64
"""Choices up to which it is one product instead of two: it grows with their square, but a call
costs small batches more than its arithmetic."""


def one_product(sizes: Sequence[int], others: int) -> Tensor:
    """What turns outputs (the value of the state, the advantages of all choices of branches of
    these sizes, and others) into Q = V + A - mean(A) of each choice: float32
    [1 + choices + others, choices]. Nothing, [0], where there is no choice or more than MOST."""
    choices = sum(sizes)
    if not 0 < choices <= MOST:
        return torch.empty(0)
    of_branch = torch.eye(len(sizes)).repeat_interleave(torch.tensor(sizes), dim=0)
    mean = of_branch / torch.tensor(sizes) @ of_branch.T
    of_value, of_others = torch.ones(1, choices), torch.zeros(others, choices)
    return torch.cat([of_value, torch.eye(choices) - mean, of_others])
