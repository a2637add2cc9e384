"""The losses of rows, weighted and added up as agent.objective says, and where their gradient
starts: at the network's last layer, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from agent.batch import Batch, split_rows
from agent.cloning import Cloning
from agent.legal import masked
from agent.losses import (
    Loss,
    cross_entropy_loss,
    dpg_loss,
    large_margin_loss,
    margins_of,
    over_branches,
    regression_loss,
)
from agent.networks import QNetwork
from agent.targets import add_columns, best_choices, take_columns
from config.models import ImitationConfig
from protocol.spaces import GameSpec


class Wanted(NamedTuple):
    """What is wanted of B rows that depends on no parameter: of several batches it is found at
    once."""

    plain: Tensor
    """What every loss of a row is multiplied by, [B]: its importance and the factor of its actor,
    over the rows of a batch."""
    taken: Tensor
    """Columns of the choices taken, int64 [B, branches]."""
    shown: Tensor | None = None
    """Columns of the choices to clone, int64 [B, branches]; None where nothing is cloned."""
    continuous: Tensor | None = None
    """The continuous actions to clone, [B, C]."""
    cloning: Tensor | None = None
    """What multiplies the loss of cloning, [B]."""
    margins: Tensor | None = None
    """Of the choices to clone, [B, choices] (agent.losses.margins_of)."""

    def split(self, size: int) -> list[Wanted]:
        """Those of so many rows each, as views."""
        return [self] if self.plain.shape[0] <= size else list(map(Wanted, *_split(self, size)))


class LossCoefficients(NamedTuple):
    """What multiplies each row's losses, [B] each; None where no row has that loss."""

    td: Tensor
    regression: Tensor | None
    cross_entropy: Tensor | None
    policy: Tensor | None

    def split(self, size: int) -> list[LossCoefficients]:
        """Those of so many rows each, as views."""
        return (
            [self] if self.td.shape[0] <= size else list(map(LossCoefficients, *_split(self, size)))
        )


class ForwardPass(NamedTuple):
    """What the online network makes of b states, and what it should have."""

    encoded: Tensor
    """The states as the trunk takes them, [b, inputs]; with a gradient where that is learnt."""
    inputs: list[Tensor] | None
    """What goes into each layer (agent.dense); None where autograd keeps that."""
    head_outputs: Tensor
    """The last layer, [b, outputs]; with a gradient where autograd keeps it."""
    value_params: Tensor
    """Of each choice, [b, choices, K] (agent.values); without a gradient."""
    target: Tensor
    """What the values should have been, [b, K]."""


class RowLosses(NamedTuple):
    """The losses of b rows."""

    measured: Tensor
    """Without gradient and side by side: |TD error|, Q, and the losses of values, continuous heads
    and imitation, [b, 5]."""
    gradient: Tensor
    """Of their sum, by the last layer's outputs, [b, outputs]."""
    by_autograd: Tensor | None
    """Those that autograd takes the gradient of, [b]: of a policy that follows it."""


class Losses:
    """The losses of one game under some settings."""

    def __init__(self, online: QNetwork, imitation: ImitationConfig, spec: GameSpec) -> None:
        """`online`: the network that learns."""
        self._online, self._imitation = online, imitation
        self._cloning = Cloning(spec, imitation.rows, online.middle.device)
        # Looked up once: a module takes as long for it as for a small operation.
        self._values, self._value_params = online.values, online.value_params
        self._nothing = torch.zeros_like(online.middle)
        self.regresses = len(online.middle) > 0 and not online.bins
        """Continuous actions are learnt as numbers."""

    def wanted(self, batch: Batch, plain: Tensor, cloning: float | Tensor) -> Wanted:
        """Of a batch, or of several in one. `plain` [B]: as of Wanted. `cloning`: the weight of
        cloning."""
        network, settings = self._online, self._imitation
        taken = network.columns(batch.discrete, batch.continuous)
        if not isinstance(cloning, Tensor) and not cloning:
            return Wanted(plain, taken)
        shown = self._cloning.actions(batch)
        columns, margins = network.columns(shown.discrete, shown.continuous), None
        if network.sizes and settings.loss == "margin":
            margins = margins_of(columns, network.sizes, settings.margin)
        weight = shown.weight * plain * cloning
        return Wanted(plain, taken, columns, shown.continuous, weight, margins)

    @torch.no_grad()
    def of(
        self, batch: Batch, forward: ForwardPass, wanted: Wanted, coefficients: LossCoefficients
    ) -> RowLosses:
        """Of some rows, a part of a batch."""
        network, values = self._online, self._values
        params, target = forward.value_params, forward.target
        params_taken = take_columns(params, wanted.taken) if network.sizes else params
        td, of_taken = values.loss(params_taken, target)
        td = over_branches(td) * coefficients.td
        of_taken = of_taken * _of_rows(coefficients.td, of_taken)
        q_taken = values.q(params_taken)
        td_error = over_branches((values.mean(target)[:, None] - q_taken).abs_())

        of_params, imitation = of_taken, None
        if network.sizes:
            if len(network.sizes) > 1:
                of_taken /= len(network.sizes)
            imitation = self._imitation_loss(params, wanted, coefficients, batch.legal)
            if imitation is None:
                of_params = torch.zeros_like(params)
            else:
                of_params = values.q_backward(params, imitation[1])
            add_columns(of_params, wanted.taken, of_taken)
        continuous = of_others = by_autograd = None
        if self.regresses and not network.follows_gradient:
            squashed = network.squashed(forward.head_outputs)
            continuous, of_squashed = self._regression(
                squashed, batch.continuous, wanted, coefficients.regression
            )
            of_others = of_squashed * (1 - squashed * squashed)
        elif self.regresses:
            continuous = by_autograd = self._policy_loss(batch, forward, wanted, coefficients)
        of_imitation = None if imitation is None else imitation[0]
        if self._nothing.shape != td.shape:
            self._nothing = torch.zeros_like(td)
        measured = [td_error, over_branches(q_taken), td]
        measured += [self._nothing if each is None else each for each in (continuous, of_imitation)]
        gradient = self._value_params.backward(of_params, of_others)
        return RowLosses(torch.stack(measured, dim=1), gradient, by_autograd)

    def _imitation_loss(
        self,
        params_tm1: Tensor,
        wanted: Wanted,
        coefficients: LossCoefficients,
        legal_tm1: Tensor | None,
    ) -> Loss | None:
        """Towards the choices taken, and towards those shown, together, [b]; and the gradient by Q
        [b, choices]. What is not legal competes with neither."""
        sizes, settings = self._online.sizes, self._imitation
        if coefficients.cross_entropy is None and wanted.shown is None:
            return None
        q_tm1, losses = self._values.q(params_tm1), []
        if (weight := coefficients.cross_entropy) is not None:
            rivals = masked(q_tm1, legal_tm1, wanted.taken)
            entropy = cross_entropy_loss(rivals, wanted.taken, sizes, settings.temperature)
            losses.append(_weighted(entropy, weight))
        if wanted.shown is not None and wanted.cloning is not None:
            rivals = masked(q_tm1, legal_tm1, wanted.shown)
            if wanted.margins is not None:
                cloned = large_margin_loss(rivals, wanted.shown, sizes, wanted.margins)
            else:
                cloned = cross_entropy_loss(rivals, wanted.shown, sizes, settings.temperature)
            losses.append(_weighted(cloned, wanted.cloning))
        return _together(losses)

    def _regression(
        self, squashed: Tensor, taken: Tensor, wanted: Wanted, coefficient: Tensor | None
    ) -> Loss:
        """Of the continuous heads towards the action taken, [b, C], and that shown: together, [b];
        and the gradient by the action in units of half its range."""
        network, losses = self._online, []
        if coefficient is not None:
            to_taken = regression_loss(squashed, network.to_squashed(taken))
            losses.append(_weighted(to_taken, coefficient))
        if wanted.continuous is not None and wanted.cloning is not None:
            to_shown = regression_loss(squashed, network.to_squashed(wanted.continuous))
            losses.append(_weighted(to_shown, wanted.cloning))
        return _together(losses)

    @torch.enable_grad()
    def _policy_loss(
        self, batch: Batch, forward: ForwardPass, wanted: Wanted, coefficients: LossCoefficients
    ) -> Tensor:
        """Of a policy that follows the gradient, and of the action shown, [b]; autograd takes its
        gradient."""
        assert coefficients.policy is not None
        values = self._policy_values(forward.encoded, batch.legal)
        loss = dpg_loss(values) * coefficients.policy
        if wanted.shown is not None:
            squashed = self._online.act(forward.encoded)
            loss = loss + self._regression(squashed, batch.continuous, wanted, None)[0]
        return loss

    def _policy_values(self, encoded: Tensor, legal: Tensor | None) -> Tensor:
        """Q of the policy's own continuous action and the best legal choices with it, [b]; a
        gradient flows to the policy alone (Lillicrap et al. 2016, arXiv:1509.02971; with discrete
        choices beside it Xiong et al. 2018, arXiv:1810.06394)."""
        network = self._online
        encoded = encoded.detach()
        head_outputs = network.head_outputs(encoded, network.act(encoded), frozen=True)
        q = network.values.q(network.value_params(head_outputs))
        if not network.sizes:
            return q[:, 0]
        choices = best_choices(masked(q, legal), network.sizes)
        return q.gather(1, choices + network.offsets).mean(1)


def _split(columns: Sequence[Tensor | None], size: int) -> list[Sequence[Tensor | None]]:
    """Each in parts of so many rows, the first of which is there."""
    assert columns[0] is not None
    nothing = [None] * len(split_rows(columns[0], size))
    return [nothing if each is None else split_rows(each, size) for each in columns]


def _of_rows(numbers: Tensor, like: Tensor) -> Tensor:
    """A number for each row, [b], so that it multiplies [b, ...]."""
    return numbers.view(-1, *[1] * (like.dim() - 1))


def _weighted(loss: Loss, weight: Tensor) -> Loss:
    """A loss of rows times numbers of theirs, [b]."""
    return loss[0] * weight, loss[1] * weight[:, None]


def _together(losses: Sequence[Loss]) -> Loss:
    """Losses by the same numbers, added up."""
    each, gradients = zip(*losses, strict=True)
    return sum(each[1:], each[0]), sum(gradients[1:], gradients[0])
