"""Value heads: what is learnt of the return, its mean or its distribution. No parameters.

A network gives `value_params`, K numbers for each choice: [..., K], or, where K is 1, [...] (views
to and fro would cost small batches more than the arithmetic). A *value head* knows what they mean:
which Q they stand for, which target they are to reach, and how far they are from it; and the
gradients of the first and the last. Formulas are
in `agent.targets` and `agent.losses`; names carry time as there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agent.losses import Loss, categorical_td_loss, huber_td_loss, over_branches, quantile_td_loss
from agent.targets import bootstrapped_target, categorical_target
from config.models import LearnerConfig


class ScalarValues(nn.Module):
    """The one number is Q itself: K = 1. The loss is Huber's."""

    atoms = 1

    def __init__(self, delta: float) -> None:
        super().__init__()
        self._delta = delta

    def q(self, value_params: Tensor) -> Tensor:
        """Q [...] of [...]."""
        return value_params

    def q_backward(self, _: Tensor, of_q: Tensor) -> Tensor:
        """From the gradient of Q [...], that of [...]."""
        return of_q

    def targets(self, r_t: Tensor, discount_t: Tensor, value_params_t: Tensor) -> Tensor:
        """Target values [B, 1] from what each branch bootstraps from, [B, H]: as those of
        `bootstrapped_target`."""
        return torch.addcmul(r_t, discount_t, over_branches(value_params_t))[:, None]

    def mean(self, target: Tensor) -> Tensor:
        """The return that a target [B, 1] stands for, [B]."""
        return target[:, 0]

    def loss(self, value_params_tm1: Tensor, target_tm1: Tensor) -> Loss:
        """Of what was chosen in each branch, [B, H], against the row's target [B, 1]: [B, H], and
        the gradient, in the shape of what was chosen."""
        return huber_td_loss(value_params_tm1, target_tm1, self._delta)


class CategoricalValues(nn.Module):
    """Logits of K fixed returns from `low` to `high` (C51, Bellemare et al. 2017,
    arXiv:1707.06887). The loss is the cross entropy with the projected target."""

    support: Tensor

    def __init__(self, atoms: int, low: float, high: float) -> None:
        super().__init__()
        self.atoms = atoms
        self._low, self._high = low, high
        self.register_buffer("support", torch.linspace(low, high, atoms), persistent=False)

    def q(self, value_params: Tensor) -> Tensor:
        """Q [...] of [..., K]: the mean of the distribution."""
        return value_params.softmax(-1) @ self.support

    def q_backward(self, value_params: Tensor, of_q: Tensor) -> Tensor:
        """From the gradient of Q [...], that of [..., K]: p_k (support_k - Q)."""
        p = value_params.softmax(-1)
        return p * (self.support - (p @ self.support)[..., None]) * of_q[..., None]

    def targets(self, r_t: Tensor, discount_t: Tensor, value_params_t: Tensor) -> Tensor:
        """Target probabilities [B, K] from what each branch bootstraps from, [B, H, K]."""
        low, high = self._low, self._high
        return categorical_target(r_t, discount_t, value_params_t, self.support, low, high)

    def mean(self, target: Tensor) -> Tensor:
        """The return that target probabilities [B, K] stand for, [B]."""
        return target @ self.support

    def loss(self, value_params_tm1: Tensor, target_tm1: Tensor) -> Loss:
        """Of what was chosen in each branch, [B, H, K], against the row's target [B, K]: [B, H],
        and the gradient, in the shape of what was chosen."""
        return categorical_td_loss(value_params_tm1, target_tm1)


class QuantileValues(nn.Module):
    """K quantiles of the return, at (i + 1/2) / K (QR-DQN, Dabney et al. 2018, arXiv:1710.10044).
    The loss is the quantile Huber loss."""

    levels: Tensor

    def __init__(self, atoms: int, delta: float) -> None:
        super().__init__()
        self.atoms = atoms
        self._delta = delta
        levels = (torch.arange(atoms) + 0.5) / atoms
        self.register_buffer("levels", levels, persistent=False)

    def q(self, value_params: Tensor) -> Tensor:
        """Q [...] of [..., K]: the mean of the quantiles."""
        return value_params.mean(-1)

    def q_backward(self, _: Tensor, of_q: Tensor) -> Tensor:
        """From the gradient of Q [...], that of [..., K]."""
        return (of_q / self.atoms)[..., None].repeat(1, 1, self.atoms)

    def targets(self, r_t: Tensor, discount_t: Tensor, value_params_t: Tensor) -> Tensor:
        """Target quantiles [B, K] from what each branch bootstraps from, [B, H, K]."""
        return bootstrapped_target(r_t, discount_t, value_params_t)

    def mean(self, target: Tensor) -> Tensor:
        """The return that target quantiles [B, K] stand for, [B]."""
        return target.mean(1)

    def loss(self, value_params_tm1: Tensor, target_tm1: Tensor) -> Loss:
        """Of what was chosen in each branch, [B, H, K], against the row's target [B, K]: [B, H],
        and the gradient, in the shape of what was chosen."""
        return quantile_td_loss(value_params_tm1, target_tm1, self.levels, self._delta)


ValueHead = ScalarValues | CategoricalValues | QuantileValues


def value_head(learner: LearnerConfig) -> ValueHead:
    """The value head of a configuration."""
    if learner.value == "c51":
        return CategoricalValues(learner.atoms, learner.value_min, learner.value_max)
    if learner.value == "quantile":
        return QuantileValues(learner.atoms, learner.huber_delta)
    return ScalarValues(learner.huber_delta)
