"""The losses, one number for each row or branch: values, continuous actions, imitation. Pure.

Names carry time as in the papers: `tm1` is the step that was acted on, `t` the one that the return
is bootstrapped from. B rows, H branches (discrete heads, and continuous columns in bins), K numbers
that stand for a value (agent.values), C continuous columns. All tensors are float32 unless a
docstring says otherwise.

Choices of all branches stand side by side: `q_tm1` [B, choices] has those of the first branch, then
those of the second, and so on. `sizes` are their numbers of choices; `columns_tm1`, int64 [B, H],
is the column of what was chosen in each branch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

POLICY_SCALE = 1e-3
"""Added to the mean |Q| that the policy's loss is divided by."""


def huber_td_loss(qa_tm1: Tensor, target_tm1: Tensor, delta: float) -> Tensor:
    """Huber loss of the TD error, [B, H] (Mnih et al. 2015, doi:10.1038/nature14236, methods).

        e = target - Q(s, a);   e^2 / 2 where |e| <= delta, else delta * (|e| - delta / 2)

    `qa_tm1` [B, H]: Q of what was chosen in each branch. `target_tm1` [B, 1].
    """
    return F.huber_loss(qa_tm1, target_tm1.expand_as(qa_tm1), reduction="none", delta=delta)


def categorical_td_loss(logits_qa_tm1: Tensor, p_target_tm1: Tensor) -> Tensor:
    """Cross entropy of the predicted distribution with the target's, [B, H] (C51, Bellemare et al.
    2017, arXiv:1707.06887, algorithm 1).

        - sum over k of  p_target_k * log softmax(logits)_k

    `logits_qa_tm1` [B, H, K]: of what was chosen in each branch. `p_target_tm1` [B, K].
    """
    return -(logits_qa_tm1.log_softmax(-1) * p_target_tm1[:, None, :]).sum(-1)


def quantile_td_loss(
    dist_qa_tm1: Tensor, dist_target_tm1: Tensor, levels: Tensor, delta: float
) -> Tensor:
    """Quantile Huber loss, [B, H] (QR-DQN, Dabney et al. 2018, arXiv:1710.10044, equation 10).

        u_ij = target_j - quantile_i
        sum over i of  mean over j of  |level_i - 1(u_ij < 0)| * huber(u_ij) / delta

    `dist_qa_tm1` [B, H, K]: the quantiles at `levels` [K] of what was chosen in each branch.
    `dist_target_tm1` [B, K].
    """
    u = dist_target_tm1[:, None, None, :] - dist_qa_tm1[..., None]  # [B, H, K, K of the target]
    huber = F.huber_loss(u, torch.zeros_like(u), reduction="none", delta=delta)
    below = (u.detach() < 0).to(u.dtype)
    weight = (levels[:, None] - below).abs_().div_(delta)
    return (weight * huber).mean(-1).sum(-1)


def regression_loss(squashed_tm1: Tensor, squashed_a_tm1: Tensor) -> Tensor:
    """Mean squared distance of the network's continuous action from the one taken, [B], both [B, C]
    in units of half their range. Weighted by the advantage it is advantage-weighted regression
    (Peng et al. 2019, arXiv:1910.00177) with a Gaussian policy."""
    return (squashed_tm1 - squashed_a_tm1).square().mean(1)


def dpg_loss(q_tm1: Tensor) -> Tensor:
    """-Q of the policy's own action, by its mean magnitude over the rows, [B] (deterministic policy
    gradient, Lillicrap et al. 2016, arXiv:1509.02971).

        - Q_i / (mean |Q| + POLICY_SCALE)

    The scale of Q is the game's, and that of the loss must not be (TD3+BC, Fujimoto and Gu 2021,
    arXiv:2106.06860). `q_tm1` [B].
    """
    return -(q_tm1 / (q_tm1.detach().abs().mean() + POLICY_SCALE))


def cross_entropy_loss(
    q_tm1: Tensor, columns_tm1: Tensor, sizes: Sequence[int], temperature: float
) -> Tensor:
    """Cross entropy of the choices with those taken, mean over branches, [B].

        - log softmax(q / temperature) of what was chosen

    Greedy play follows Q, so cloning must move Q: it is read as the logits of a policy, as in
    soft Q imitation (the likelihood of Boltzmann-rational choices, Ramachandran and Amir 2007).
    """
    logits = q_tm1 / temperature
    chosen = logits.gather(1, columns_tm1)
    return over_branches(_per_branch(logits, sizes, torch.logsumexp) - chosen)


def large_margin_loss(
    q_tm1: Tensor, columns_tm1: Tensor, sizes: Sequence[int], margin: float
) -> Tensor:
    """How far Q of what was chosen is from being `margin` above all others, mean over branches, [B]
    (DQfD, Hester et al. 2018, arXiv:1704.03732, equation 2).

        max over a of (q(a) + margin where a was not chosen) - q(what was chosen)
    """
    margins = torch.full_like(q_tm1, margin, requires_grad=False).scatter_(1, columns_tm1, 0.0)
    return over_branches(
        _per_branch(q_tm1 + margins, sizes, _largest) - q_tm1.gather(1, columns_tm1)
    )


def over_branches(each: Tensor) -> Tensor:
    """The mean over branches, [B, H] -> [B]."""
    return each.mean(1) if each.shape[1] > 1 else each.squeeze(1)


def _largest(q: Tensor, dim: int) -> Tensor:
    """The largest along a dimension; of several that are, the gradient goes to one."""
    return q.max(dim).values


def _per_branch(q: Tensor, sizes: Sequence[int], reduce: Callable[[Tensor, int], Tensor]) -> Tensor:
    """A number for each branch, [B, H], from its columns."""
    if len(sizes) == 1:
        return reduce(q, 1).unsqueeze(1)
    if len(set(sizes)) == 1:
        return reduce(q.view(-1, len(sizes), sizes[0]), 2)
    return torch.stack([reduce(part, 1) for part in torch.split(q, list(sizes), dim=1)], dim=1)
