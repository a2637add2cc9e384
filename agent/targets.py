"""TD targets, and how the target network follows the online one. Pure.

Names carry time: `tm1` is the step that was acted on, `t` the one a few steps later (after
`horizon` steps) that the return is bootstrapped from. Branches (discrete heads, and columns in
bins) stand side by side: `q` has one column per choice, all choices of the first branch, then those
of the second, and so on; `sizes` are their numbers of choices and `offsets` the column where each
begins. B rows, H branches, K numbers that stand for a value (agent.values).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def best_choices(q: Tensor, sizes: Sequence[int]) -> Tensor:
    """The choice of each branch with the largest Q, int64 [B, H], counted within the branch."""
    if len(sizes) == 1:
        return q.argmax(1, keepdim=True)
    if len(set(sizes)) == 1:
        return q.view(-1, len(sizes), sizes[0]).argmax(2)
    parts = torch.split(q, list(sizes), dim=1)
    return torch.cat([part.argmax(1, keepdim=True) for part in parts], dim=1)


def take_columns(value_params: Tensor, columns: Tensor) -> Tensor:
    """Those of some choices, int64 [B, H]: [B, choices, K] -> [B, H, K], [B, choices] -> [B, H]."""
    if value_params.dim() == 2:
        return value_params.gather(1, columns)
    return value_params.gather(1, columns[:, :, None].expand(-1, -1, value_params.shape[2]))


def add_columns(value_params: Tensor, columns: Tensor, numbers: Tensor) -> None:
    """Add to those of some choices, in place: `take_columns` backwards."""
    if value_params.dim() == 3:
        columns = columns[:, :, None].expand_as(numbers)
    value_params.scatter_add_(1, columns, numbers)


def double_dqn(
    value_params_t: Tensor, q_t_selector: Tensor, sizes: Sequence[int], offsets: Tensor
) -> Tensor:
    """What each branch bootstraps from, [B, H, K] or [B, H]: the selector (online network) chooses,
    the target network says what that is worth (van Hasselt et al. 2016, arXiv:1509.06461).

    `value_params_t` [B, choices, K] or [B, choices] are the target network's, `q_t_selector`
    [B, choices].
    """
    columns = best_choices(q_t_selector, sizes)
    return take_columns(value_params_t, columns if len(sizes) == 1 else columns + offsets)


def bootstrapped_target(r_t: Tensor, discount_t: Tensor, value_params_t: Tensor) -> Tensor:
    """Target values or quantiles, [B, K]: the mean over branches, discounted, after the return.

        target_k = r_t + discount_t * mean over branches of v_t,k

    One target for all branches is that of branching DQN (Tavakoli et al. 2018, arXiv:1711.08946,
    equation 5). `r_t` [B] is the n-step return, `discount_t` [B] gamma**horizon or 0,
    `value_params_t` [B, H, K].
    """
    return torch.addcmul(r_t[:, None], discount_t[:, None], value_params_t.mean(1))


def categorical_target(
    r_t: Tensor, discount_t: Tensor, logits_t: Tensor, support: Tensor, low: float, high: float
) -> Tensor:
    """Target probabilities, [B, K]: the mixture over branches, moved by the return and projected
    onto the fixed values (C51, Bellemare et al. 2017, arXiv:1707.06887, equation 7).

        p_j = sum over k of  max(0, 1 - |clip(r_t + discount_t * support_k) - support_j| / step) p_k

    What falls beyond the support counts for its outermost value. `r_t`, `discount_t` [B],
    `logits_t` [B, H, K], `support` [K], evenly spaced from `low` to `high`. These are given as
    numbers too, so that nothing waits for the device.
    """
    p_t = logits_t.softmax(-1).mean(1)
    step = (high - low) / (len(support) - 1)
    moved = torch.addcmul(r_t[:, None], discount_t[:, None], support).clamp_(low, high)
    # Each moved value is shared among its two neighbors by how near it is: a triangle.
    near = (moved[:, None, :] - support[:, None]).abs_().div_(-step).add_(1)
    return (near.clamp_(min=0) * p_t[:, None, :]).sum(2)


@torch.no_grad()
def soft_update(target: Sequence[Tensor], online: Sequence[Tensor], tau: float) -> None:
    """target += tau * (online - target), in place (Lillicrap et al. 2016, arXiv:1509.02971)."""
    torch._foreach_lerp_(list(target), list(online), tau)


@torch.no_grad()
def hard_update(target: Sequence[Tensor], online: Sequence[Tensor]) -> None:
    """target = online, in place."""
    torch._foreach_copy_(list(target), list(online))
