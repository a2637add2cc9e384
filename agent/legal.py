"""Legal choices: masks as tensors, and what they do to values.

A mask is bool [B, choices], the choices of all discrete heads side by side as in the values of a
network, True where a choice is legal. Games without masks have None in its place. Columns that are
cut into bins come behind the heads, have no bits, and are always legal.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def unpacked(packed: Tensor, choices: int) -> Tensor:
    """Packed masks (protocol.masks), uint8 [B, bytes], as bool [B, choices]. Waits for no
    device."""
    bits = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed[:, :, None] >> bits) & 1).flatten(1)[:, :choices].bool()


def masked(q: Tensor, legal: Tensor | None, taken: Tensor | None = None) -> Tensor:
    """Q [B, choices], minus infinity where a choice is not legal: the largest of a head is then a
    legal one, and the others are no part of a softmax (Huang and Ontañón 2022, arXiv:2006.14171).

    `taken`, int64 [B, branches]: columns that count as legal in any case, so that no loss of them
    is infinite.
    """
    if legal is None:
        return q
    if legal.shape[1] < q.shape[1]:
        legal = F.pad(legal, (0, q.shape[1] - legal.shape[1]), value=True)
    if taken is not None:
        legal = legal.scatter(1, taken, True)
    return q.masked_fill(legal.logical_not(), -torch.inf)
