"""How what comes next is judged, and how the target network follows. Pure functions.

Names carry time: `tm1` is the state that was acted on, `t` the state a few steps later from which
the return is bootstrapped (after `horizon` steps). Branches (discrete heads, and columns in bins)
stand side by side: `q` has one column per choice, all choices of the first branch, then those of
the second, and so on; `sizes` are their numbers of choices and `offsets` the column where each
begins.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def best_choices(q: Tensor, sizes: Sequence[int]) -> Tensor:
    """The choice of each branch with the largest Q, int64 [B, branches], counted within the
    branch."""
    if len(set(sizes)) == 1:
        return q.view(-1, len(sizes), sizes[0]).argmax(2)
    parts = torch.split(q, list(sizes), dim=1)
    return torch.cat([part.argmax(1, keepdim=True) for part in parts], dim=1)


def of_columns(z: Tensor, columns: Tensor) -> Tensor:
    """z [B, choices, K] of some of the choices, columns int64 [B, H] -> [B, H, K]."""
    if z.shape[2] == 1:
        return z.squeeze(2).gather(1, columns).unsqueeze(2)
    return z.gather(1, columns[:, :, None].expand(-1, -1, z.shape[2]))


def double_dqn(
    z_t_value: Tensor, q_t_selector: Tensor, sizes: Sequence[int], offsets: Tensor
) -> Tensor:
    """What each branch bootstraps from, [B, H, K]: the selector (online network) chooses, the value
    (target network) judges (van Hasselt et al. 2016, arXiv:1509.06461).

    `z_t_value` [B, choices, K], `q_t_selector` [B, choices].
    """
    return of_columns(z_t_value, best_choices(q_t_selector, sizes) + offsets)


@torch.no_grad()
def soft_update(target: Sequence[Tensor], online: Sequence[Tensor], tau: float) -> None:
    """target += tau * (online - target), in place (Lillicrap et al. 2016, arXiv:1509.02971)."""
    torch._foreach_lerp_(list(target), list(online), tau)


@torch.no_grad()
def hard_update(target: Sequence[Tensor], online: Sequence[Tensor]) -> None:
    """target = online, in place."""
    torch._foreach_copy_(list(target), list(online))
