"""What Q should have been: targets, and how the target network follows. Pure functions.

Names carry time: `tm1` is the state that was acted on, `t` the state a few steps later from which
the return is bootstrapped (after `horizon` steps). Discrete heads stand side by side: `q` has one
column per choice, all choices of the first head, then those of the second, and so on; `sizes` are
their numbers of choices and `offsets` the column where each begins.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def best_choices(q: Tensor, sizes: Sequence[int]) -> Tensor:
    """The choice of each head with the largest Q, int64 [B, heads], counted within the head."""
    if len(set(sizes)) == 1:
        return q.view(-1, len(sizes), sizes[0]).argmax(2)
    parts = torch.split(q, list(sizes), dim=1)
    return torch.cat([part.argmax(1, keepdim=True) for part in parts], dim=1)


def double_dqn_targets(
    r_t: Tensor,
    discount_t: Tensor,
    q_t_value: Tensor,
    q_t_selector: Tensor,
    sizes: Sequence[int],
    offsets: Tensor,
) -> Tensor:
    """Double DQN targets [B]: the selector (online network) chooses, the value (target network)
    judges (van Hasselt et al. 2016, arXiv:1509.06461).

    `r_t` [B]: discounted sum of the rewards between tm1 and t. `discount_t` [B]: gamma**horizon, 0
    where the episode terminated. With several heads the bootstrap value is the mean over heads, one
    target for all of them (branching DQN, Tavakoli et al. 2018, arXiv:1711.08946, equation 5).
    """
    q_t = q_t_value.gather(1, best_choices(q_t_selector, sizes) + offsets)
    return value_targets(r_t, discount_t, q_t.mean(1))


def value_targets(r_t: Tensor, discount_t: Tensor, v_t: Tensor) -> Tensor:
    """n-step TD targets [B] for a state value, `v_t` [B] the target network's."""
    return torch.addcmul(r_t, discount_t, v_t)


@torch.no_grad()
def soft_update(target: Sequence[Tensor], online: Sequence[Tensor], tau: float) -> None:
    """target += tau * (online - target), in place (Lillicrap et al. 2016, arXiv:1509.02971)."""
    torch._foreach_lerp_(list(target), list(online), tau)


@torch.no_grad()
def hard_update(target: Sequence[Tensor], online: Sequence[Tensor]) -> None:
    """target = online, in place."""
    torch._foreach_copy_(list(target), list(online))
