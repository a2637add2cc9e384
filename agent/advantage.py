"""Advantage weights: what went better than usual counts more, each actor compared with itself.

For each actor k with more than one row in the batch (and rewards that differ):

    z_i = clip((r_i - mean_k) / (std_k + 1e-8), -clip, clip)        std with n - 1
    w_i = clip(exp(beta * z_i), weight_min, weight_max)

An exponential of the advantage as a weight is that of advantage-weighted regression (Peng et al.
2019, arXiv:1910.00177). Comparing each actor with itself is this project's own: over the whole
batch (`mode="global"`), a strong expert's rows all look good and a student's all look bad,
whatever each of them did, and the student is drowned out.

Groups are integers and sums are segment sums, so nothing waits for the device, shapes are fixed,
and any number of actors costs the same.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Mode = Literal["per_actor", "global", "off"]
MODES: tuple[str, ...] = get_args(Mode)

EPSILON = 1e-8
"""Added to the standard deviation."""

CONSTANT = 1e-6
"""A standard deviation of at most this times the largest |reward| is rounding, not a difference:
float32 has a relative precision of 6e-8."""


@torch.no_grad()
def advantage_weights(
    rewards: Tensor,
    actors: Tensor | None,
    *,
    beta: float = 1.5,
    clip: float = 3.0,
    weight_min: float = 0.001,
    weight_max: float = 100.0,
    mode: Mode = "per_actor",
) -> Tensor:
    """The weight of each row, float32 [B], on the device of `rewards`.

    `rewards` [B]: what each action earned, any real dtype, computed in float32.
    `actors` [B]: who chose it. Any integers: equal ones form a group. None: one group.
    `mode`: "per_actor" compares rows with those of the same actor, "global" with the whole batch,
    "off" gives every row 1.

    A group of one row, or one whose rewards are constant to rounding, has weight 1. Errors:
    ValueError for an unknown mode or for shapes that do not fit.
    """
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    groups = _groups(rewards, actors if mode == "per_actor" else None)
    r = rewards.to(torch.float32)
    if mode == "off":
        return torch.ones_like(r)

    count = _sums(torch.ones_like(r), groups).clamp_min_(1)
    # Two passes: a mean summed in float32 is off by up to B roundings; that of what is left is not.
    residual = r - _of_row(_sums(r, groups).div_(count), groups)
    residual -= _of_row(_sums(residual, groups).div_(count), groups)
    std = _sums(residual * residual, groups).div_(count.sub_(1).clamp_min_(1)).sqrt_()
    largest = torch.zeros_like(r).scatter_reduce_(0, groups, r.abs(), "amax")
    return weights_of(
        residual, _of_row(std, groups), _of_row(largest, groups),
        beta=beta, clip=clip, weight_min=weight_min, weight_max=weight_max,
    )  # fmt: skip


def weights_of(
    residual: Tensor,
    std: Tensor,
    largest: Tensor,
    *,
    beta: float,
    clip: float,
    weight_min: float,
    weight_max: float,
) -> Tensor:
    """The weight of each row from how far it is from the mean of its group, that group's standard
    deviation and largest magnitude, float32 [B] each. They are used up."""
    # True for a group of one row too: its only residual is 0.
    constant = std <= largest.mul_(CONSTANT)
    z = residual.div_(std.add_(EPSILON)).clamp_(-clip, clip)
    weights = z.mul_(beta).exp_().clamp_(weight_min, weight_max)
    return weights.masked_fill_(constant, 1.0)


@torch.no_grad()
def normalize_weights(weights: Tensor, actors: Tensor | None) -> Tensor:
    """Each weight divided by the mean weight of its actor's rows, float32 [B].

    With rewards from a normal distribution and beta 1.5 the mean weight is near 3: without this,
    turning the weights on also makes the steps larger. `actors` as in `advantage_weights`.
    """
    groups = _groups(weights, actors)
    mean = _sums(weights, groups) / _sums(torch.ones_like(weights), groups).clamp_min(1)
    return weights / _of_row(mean, groups)


def _groups(rows: Tensor, actors: Tensor | None) -> Tensor:
    """For each row the number of its group, int64 [B] within 0 to B-1, numbered without gaps."""
    if rows.dim() != 1:
        raise ValueError(f"expected one number for each row, [B], got {list(rows.shape)}")
    numbers = torch.zeros(rows.shape, dtype=torch.int64, device=rows.device)
    if actors is None:
        return numbers
    if actors.shape != rows.shape or actors.is_floating_point():
        raise ValueError(
            f"actors: expected an integer for each of {len(rows)} rows, "
            f"got {actors.dtype} {list(actors.shape)}"
        )
    ordered, order = actors.sort()
    # In sorted order the number rises by one wherever the actor changes.
    return numbers.scatter_(0, order[1:], (ordered[1:] != ordered[:-1]).cumsum(0))


def _sums(values: Tensor, groups: Tensor) -> Tensor:
    """The sum over each group, [B]: as many places as there can be groups."""
    return torch.zeros_like(values).index_add_(0, groups, values)


def _of_row(per_group: Tensor, groups: Tensor) -> Tensor:
    """For each row the entry of its group, [B]."""
    return per_group.index_select(0, groups)
