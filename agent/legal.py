"""Legal choices: masks as tensors, and what they do to values and to dice.

A mask is bool [B, choices], the choices of all discrete heads side by side as in the values of a
network, True where a choice is legal. Games without masks have None in its place. Columns that are
cut into bins come behind the heads, have no bits, and are always legal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
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


def random_legal(
    legal: npt.NDArray[np.bool_], columns: slice, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """For each of n masks [n, choices] a choice of the head with these columns, each legal one as
    likely as the others, [n]. Every head has a legal choice."""
    of_head = legal[:, columns]
    counts = of_head.sum(axis=1)
    wanted = rng.integers(counts)
    found: npt.NDArray[np.intp] = (of_head.cumsum(axis=1) > wanted[:, None]).argmax(axis=1)
    return found


def made_legal(
    rows: npt.NDArray[np.float32],
    legal: npt.NDArray[np.bool_],
    discrete_columns: Sequence[int],
    choice_columns: Sequence[slice],
) -> None:
    """In n action rows [n, action_width], give each choice that is not legal by its mask
    [n, choices] the first legal one of its head instead, in place."""
    for column, columns in zip(discrete_columns, choice_columns, strict=True):
        of_head = legal[:, columns]
        allowed = of_head[np.arange(len(rows)), rows[:, column].astype(np.intp)]
        np.copyto(rows[:, column], of_head.argmax(axis=1), where=~allowed, casting="unsafe")
