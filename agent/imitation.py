"""Imitation of chosen actions on discrete heads. Pure functions.

`q` [B, choices] has the choices of all heads side by side, `sizes` are their numbers of choices,
`columns` int64 [B, H] the column of what was chosen on each head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def cross_entropy(q: Tensor, columns: Tensor, sizes: Sequence[int], temperature: float) -> Tensor:
    """Of each row, the mean over heads of -log softmax(q / temperature) of what was chosen, [B].

    Greedy play follows Q, so cloning must move Q: it is read as the logits of a policy, as in
    soft Q imitation (the likelihood of Boltzmann-rational choices, Ramachandran and Amir 2007).
    """
    logits = q / temperature
    chosen = logits.gather(1, columns)
    return (_per_head(logits, sizes, torch.logsumexp) - chosen).mean(1)


def large_margin(q: Tensor, columns: Tensor, sizes: Sequence[int], margin: float) -> Tensor:
    """Of each row, the mean over heads of max_a(q + margin where a was not chosen) - q of what was
    chosen, [B] (DQfD, Hester et al. 2018, arXiv:1704.03732, equation 2)."""
    raised = (q + margin).scatter_add(1, columns, q.new_full(columns.shape, -margin))
    return (_per_head(raised, sizes, torch.amax) - q.gather(1, columns)).mean(1)


def _per_head(q: Tensor, sizes: Sequence[int], reduce: Callable[[Tensor, int], Tensor]) -> Tensor:
    """A number for each head, [B, H], from its columns."""
    if len(set(sizes)) == 1:
        return reduce(q.view(-1, len(sizes), sizes[0]), 2)
    return torch.stack([reduce(part, 1) for part in torch.split(q, list(sizes), dim=1)], dim=1)
