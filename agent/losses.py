"""The losses, one number for each row or branch: values, continuous actions, imitation. Pure.

A loss comes with its gradient in closed form, of its sum by its first argument, in whose shape it
is: what is learnt from starts there, and the loss itself is only shown. Both are in the docstring.

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
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

POLICY_SCALE = 1e-3
"""Added to the mean |Q| that the policy's loss is divided by."""


Loss = tuple[Tensor, Tensor]
"""A loss, and its gradient."""


def huber_td_loss(qa_tm1: Tensor, target_tm1: Tensor, delta: float) -> Loss:
    """Huber loss of the TD error, [B, H] (Mnih et al. 2015, doi:10.1038/nature14236, methods).

        e = target - Q(s, a);   e^2 / 2 where |e| <= delta, else delta * (|e| - delta / 2)
        gradient                - clip(e, -delta, delta)

    `qa_tm1` [B, H]: Q of what was chosen in each branch. `target_tm1` [B, 1].
    """
    error = qa_tm1 - target_tm1
    gradient = error.clamp(-delta, delta)
    loss = F.huber_loss(qa_tm1, target_tm1.expand_as(qa_tm1), reduction="none", delta=delta)
    return loss, gradient


def categorical_td_loss(logits_qa_tm1: Tensor, p_target_tm1: Tensor) -> Loss:
    """Cross entropy of the predicted distribution with the target's, [B, H] (C51, Bellemare et al.
    2017, arXiv:1707.06887, algorithm 1).

        - sum over k of  p_target_k * log softmax(logits)_k
        gradient         softmax(logits)_k - p_target_k

    `logits_qa_tm1` [B, H, K]: of what was chosen in each branch. `p_target_tm1` [B, K].
    """
    log_p, p_target = logits_qa_tm1.log_softmax(-1), p_target_tm1[:, None, :]
    return -(log_p * p_target).sum(-1), log_p.exp() - p_target


def quantile_td_loss(
    dist_qa_tm1: Tensor, dist_target_tm1: Tensor, levels: Tensor, delta: float
) -> Loss:
    """Quantile Huber loss, [B, H] (QR-DQN, Dabney et al. 2018, arXiv:1710.10044, equation 10).

        u_ij = target_j - quantile_i
        sum over i of  mean over j of  |level_i - 1(u_ij < 0)| * huber(u_ij) / delta
        gradient     - mean over j of  |level_i - 1(u_ij < 0)| * clip(u_ij, -delta, delta) / delta

    `dist_qa_tm1` [B, H, K]: the quantiles at `levels` [K] of what was chosen in each branch.
    `dist_target_tm1` [B, K].
    """
    u = dist_target_tm1[:, None, None, :] - dist_qa_tm1[..., None]  # [B, H, K, K of the target]
    huber = F.huber_loss(u, torch.zeros_like(u), reduction="none", delta=delta)
    below = (u.detach() < 0).to(u.dtype)
    weight = (levels[:, None] - below).abs_().div_(delta)
    return (weight * huber).mean(-1).sum(-1), -(weight * u.clamp(-delta, delta)).mean(-1)


def regression_loss(squashed_tm1: Tensor, squashed_a_tm1: Tensor) -> Loss:
    """Mean squared distance of the network's continuous action from the one taken, [B], both [B, C]
    in units of half their range. Weighted by the advantage it is advantage-weighted regression
    (Peng et al. 2019, arXiv:1910.00177) with a Gaussian policy.

        mean over columns of (action - taken)^2;   gradient  2 (action - taken) / C
    """
    distance = squashed_tm1 - squashed_a_tm1
    return distance.square().mean(1), distance * (2 / distance.shape[1])


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
) -> Loss:
    """Cross entropy of the choices with those taken, mean over branches, [B].

        - log softmax(q / temperature) of what was chosen
        gradient  (softmax(q / temperature) - 1 where chosen) / temperature

    Greedy play follows Q, so cloning must move Q: it is read as the logits of a policy, as in
    soft Q imitation (the likelihood of Boltzmann-rational choices, Ramachandran and Amir 2007).
    """
    logits = q_tm1 / temperature
    log_p = torch.cat(_per_branch(logits, sizes, torch.log_softmax), dim=1)
    gradient = log_p.exp().scatter(1, columns_tm1, -1.0, reduce="add")
    return over_branches(-log_p.gather(1, columns_tm1)), gradient / (temperature * len(sizes))


def margins_of(columns_tm1: Tensor, sizes: Sequence[int], margin: float) -> Tensor:
    """`margin` where a choice was not chosen, else 0: [B, choices]."""
    margins = torch.full((len(columns_tm1), sum(sizes)), margin, device=columns_tm1.device)
    return margins.scatter_(1, columns_tm1, 0.0)


def large_margin_loss(
    q_tm1: Tensor, columns_tm1: Tensor, sizes: Sequence[int], margins: Tensor
) -> Loss:
    """How far Q of what was chosen is from being a margin above all others, mean over branches, [B]
    (DQfD, Hester et al. 2018, arXiv:1704.03732, equation 2).

        max over a of (q(a) + margin where a was not chosen) - q(what was chosen)
        gradient  1 at that a, and - 1 at what was chosen

    `margins` [B, choices] as of `margins_of`. Of several a that are the largest, one counts.
    """
    largest, columns = _largest(q_tm1 + margins, sizes)
    gradient = torch.zeros_like(q_tm1, requires_grad=False).scatter_(1, columns, 1 / len(sizes))
    gradient.scatter_(1, columns_tm1, -1 / len(sizes), reduce="add")
    return over_branches(largest - q_tm1.gather(1, columns_tm1)), gradient


def over_branches(each: Tensor) -> Tensor:
    """The mean over branches, [B, H] -> [B]."""
    return each.mean(1) if each.shape[1] > 1 else each.squeeze(1)


def _largest(q: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The largest of each branch, [B, H], and its column, int64 [B, H]."""
    if len(sizes) == 1:
        return q.max(1, keepdim=True)
    found = _per_branch(q, sizes, lambda part, dim: part.max(dim, keepdim=True))
    starts = accumulate(sizes, initial=0)
    columns = [each.indices + start for each, start in zip(found, starts, strict=False)]
    return torch.cat([each.values for each in found], dim=1), torch.cat(columns, dim=1)


def _per_branch(q: Tensor, sizes: Sequence[int], of_one: Callable[[Tensor, int], Any]) -> list[Any]:
    """What is found of each branch's columns."""
    return [of_one(part, 1) for part in torch.split(q, list(sizes), dim=1)]
