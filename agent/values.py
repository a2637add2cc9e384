"""What is learnt of the return: its mean, or its distribution. Pure computations, no parameters.

A network says `z`, K numbers for each choice: [..., K]. A *value head* knows what they mean: which
Q they stand for, which target they are to reach, and how far they are from it. In targets, names
carry time as in `agent.targets`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config.models import LearnerConfig


class ScalarValues(nn.Module):
    """z is Q itself: K = 1. The loss is Huber's."""

    atoms = 1

    def __init__(self, delta: float) -> None:
        super().__init__()
        self._delta = delta

    def q(self, z: Tensor) -> Tensor:
        """Q [...] of z [..., 1]."""
        return z.squeeze(-1)

    def targets(self, r_t: Tensor, discount_t: Tensor, z_t: Tensor) -> Tensor:
        """Targets [B, 1] from the bootstrapped z of each head, z_t [B, H, 1].

        With several heads the bootstrap value is the mean over heads, one target for all of them
        (branching DQN, Tavakoli et al. 2018, arXiv:1711.08946, equation 5).
        """
        return torch.addcmul(r_t[:, None], discount_t[:, None], z_t.mean(1))

    def mean(self, target: Tensor) -> Tensor:
        """The return that a target [B, 1] stands for, [B]."""
        return target[:, 0]

    def loss(self, z: Tensor, target: Tensor) -> Tensor:
        """Of each head's z [B, H, 1] against the row's target [B, 1]: [B, H]."""
        q = z.squeeze(-1)
        return F.huber_loss(q, target.expand_as(q), reduction="none", delta=self._delta)


class CategoricalValues(nn.Module):
    """z are the logits of K fixed returns from `low` to `high` (C51, Bellemare et al. 2017,
    arXiv:1707.06887). The loss is the cross entropy with the projected target."""

    support: Tensor

    def __init__(self, atoms: int, low: float, high: float) -> None:
        super().__init__()
        self.atoms = atoms
        self._low, self._high = low, high
        self._step = (high - low) / (atoms - 1)
        self.register_buffer("support", torch.linspace(low, high, atoms), persistent=False)

    def q(self, z: Tensor) -> Tensor:
        """Q [...] of z [..., K]: the mean of the distribution."""
        return z.softmax(-1) @ self.support

    def targets(self, r_t: Tensor, discount_t: Tensor, z_t: Tensor) -> Tensor:
        """Target probabilities [B, K]: those of z_t [B, H, K], averaged over heads (a mixture),
        moved by the return and laid back onto the fixed values; what falls beyond them counts for
        the outermost."""
        p_t = z_t.softmax(-1).mean(1)
        moved = torch.addcmul(r_t[:, None], discount_t[:, None], self.support)
        moved.clamp_(self._low, self._high)
        # Each moved value is shared among its two neighbours by how near it is: a triangle.
        near = (moved[:, None, :] - self.support[:, None]).abs_().div_(-self._step).add_(1)
        return (near.clamp_(min=0) * p_t[:, None, :]).sum(2)

    def mean(self, target: Tensor) -> Tensor:
        """The return that target probabilities [B, K] stand for, [B]."""
        return target @ self.support

    def loss(self, z: Tensor, target: Tensor) -> Tensor:
        """Cross entropy of each head's z [B, H, K] with the row's target [B, K]: [B, H]."""
        return -(z.log_softmax(-1) * target[:, None, :]).sum(-1)


class QuantileValues(nn.Module):
    """z are K quantiles of the return, at (i + 1/2) / K (QR-DQN, Dabney et al. 2018,
    arXiv:1710.10044). The loss is the quantile Huber loss, equation 10."""

    levels: Tensor

    def __init__(self, atoms: int, delta: float) -> None:
        super().__init__()
        self.atoms = atoms
        self._delta = delta
        levels = (torch.arange(atoms) + 0.5) / atoms
        self.register_buffer("levels", levels, persistent=False)

    def q(self, z: Tensor) -> Tensor:
        """Q [...] of z [..., K]: the mean of the quantiles."""
        return z.mean(-1)

    def targets(self, r_t: Tensor, discount_t: Tensor, z_t: Tensor) -> Tensor:
        """Target quantiles [B, K]: those of z_t [B, H, K], averaged over heads, moved by the
        return."""
        return torch.addcmul(r_t[:, None], discount_t[:, None], z_t.mean(1))

    def mean(self, target: Tensor) -> Tensor:
        """The return that target quantiles [B, K] stand for, [B]."""
        return target.mean(1)

    def loss(self, z: Tensor, target: Tensor) -> Tensor:
        """Of each head's z [B, H, K] against the row's target [B, K]: [B, H]."""
        pairs = target[:, None, None, :] - z[..., None]  # [B, H, K of z, K of target]
        huber = F.huber_loss(pairs, torch.zeros_like(pairs), reduction="none", delta=self._delta)
        below = (pairs.detach() < 0).to(pairs.dtype)
        weight = (self.levels[:, None] - below).abs_().div_(self._delta)
        return (weight * huber).mean(-1).sum(-1)


ValueHead = ScalarValues | CategoricalValues | QuantileValues


def value_head(learner: LearnerConfig) -> ValueHead:
    """The value head that a configuration asks for."""
    if learner.value == "c51":
        return CategoricalValues(learner.atoms, learner.value_min, learner.value_max)
    if learner.value == "quantile":
        return QuantileValues(learner.atoms, learner.huber_delta)
    return ScalarValues(learner.huber_delta)
