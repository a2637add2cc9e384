"""The objective: the losses of agent.losses for the rows of a batch, weighted and added up.

    loss = sum over rows i of  a_i * mean over branches of the value head's loss
                             + b_i * mean over columns of (network's action - action taken)^2
                             + c_i * cross entropy of the choices with those taken
                             + d_i * cloning: large margin, or cross entropy, of the choices shown,
                                     and mean over columns of (network's action - action shown)^2
                             - e_i * Q of the policy's continuous action

The action shown is the expert's (agent.cloning); continuous actions are in units of half their
range. The coefficients hold 1/B, the importance of the row (1 without prioritized replay), the
constant factor of its actor, the weight of the loss, and, where `advantage.applies_to` says so, the
row's advantage weight. They depend on no parameter, so masking them by actor splits the gradient by
actor.

Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from agent.batch import Batch, rows_of
from agent.cloning import ClonedActions, Cloning
from agent.legal import masked
from agent.losses import (
    cross_entropy_loss,
    dpg_loss,
    large_margin_loss,
    over_branches,
    regression_loss,
)
from agent.networks import QNetwork
from agent.past import Recalled, recall
from agent.targets import best_choices, double_dqn, take_columns
from agent.union import Union
from config.models import AdvantageConfig, ImitationConfig, LearnerConfig
from protocol.actor import ACTORS, NAMES
from protocol.spaces import GameSpec


class LossCoefficients(NamedTuple):
    """What multiplies each row's losses, [B] each; None where no row has that loss."""

    td: Tensor
    regression: Tensor | None
    cross_entropy: Tensor | None
    cloning: ClonedActions | None
    policy: Tensor | None

    def rows(self, rows: slice) -> LossCoefficients:
        """Those of some rows, as views."""
        td, regression, cross_entropy, cloning, policy = self
        return LossCoefficients(
            td[rows],
            None if regression is None else regression[rows],
            None if cross_entropy is None else cross_entropy[rows],
            None if cloning is None else cloning.rows(rows),
            None if policy is None else policy[rows],
        )


class ForwardPass(NamedTuple):
    """What the online network makes of b states, with a gradient, and what it should have."""

    encoded: Tensor
    """The states as the trunk takes them, [b, inputs]."""
    head_outputs: Tensor
    """The last layer, [b, outputs]."""
    value_params: Tensor
    """Of each choice, [b, choices, K] (agent.values)."""
    target: Tensor
    """What the values should have been, [b, K]; without a gradient."""


class Objective:
    """The loss of a batch under some settings. B rows in a batch, b in a part of it."""

    def __init__(
        self,
        online: QNetwork,
        target: QNetwork,
        learner: LearnerConfig,
        advantage: AdvantageConfig,
        imitation: ImitationConfig,
        spec: GameSpec,
        scale: Tensor,
        union: Union,
    ) -> None:
        """`online`, `target`: the networks that batches pass through. `scale` []: what rewards are
        divided by (agent.value_scale), as it is whenever targets are made. `union`: what there is
        beside a batch."""
        self._union = union
        self._scale = scale
        self._online, self._target = online, target
        self._learner, self._advantage, self._imitation = learner, advantage, imitation
        self._cloning = Cloning(spec, imitation.rows, online.middle.device)
        columns = online.middle.shape[0]
        self._regresses = columns > 0 and not online.bins
        self._weighted = set(advantage.applies_to)
        """The losses that take the advantage weight."""
        if online.bins or online.follows_gradient or not columns:
            self._weighted.discard("continuous")
        if not (imitation.taken and online.sizes):
            self._weighted.discard("imitation")
        if advantage.mode == "off":
            self._weighted.clear()
        self._actor_factors: Tensor | None = None
        """Of each actor by its number, where one is not 1."""
        if any(factor != 1 for factor in advantage.actor_factor.values()):
            factor_of = {str(name): factor for name, factor in advantage.actor_factor.items()}
            factors = torch.ones(1 + max(ACTORS), device=online.middle.device)
            for actor in ACTORS:
                factors[actor] = factor_of.get(NAMES[actor], 1.0)
            self._actor_factors = factors

    @property
    def compares_by_critic(self) -> bool:
        """Whether `weights` needs forward passes of the batch."""
        return bool(self._weighted) and self._advantage.signal == "critic"

    @torch.no_grad()
    def targets(self, batch: Batch, rows: slice) -> Tensor:
        """What the values should have been, [b, K]."""
        recalled, s_t = self._recall(batch, rows), rows_of(batch.next_states, rows)
        ahead = _head_outputs(self._online, s_t, recalled.next_online)
        return self._targets(batch, rows, ahead, recalled)

    def _recall(self, batch: Batch, rows: slice) -> Recalled:
        """What networks with a memory remember where some rows begin, and where they end."""
        return recall(self._online, self._target, batch.past, rows, self._learner.memory_burn_in)

    @torch.no_grad()
    def _targets(
        self, batch: Batch, rows: slice, head_outputs_t: Tensor | None, recalled: Recalled
    ) -> Tensor:
        """`head_outputs_t`: what the online network makes of the next states, [b, outputs]."""
        r_t, discount_t = batch.returns[rows] / self._scale, batch.discounts[rows]
        online, target = self._online, self._target
        s_t = rows_of(batch.next_states, rows)
        value_params_t = target.value_params(_head_outputs(target, s_t, recalled.next_target))
        if head_outputs_t is not None and online.sizes:
            q_t = masked(online.preferences(head_outputs_t), batch.next_legal_in(rows))
            value_params_t = double_dqn(value_params_t, q_t, online.sizes, online.offsets)
        return online.values.targets(r_t, discount_t, value_params_t)

    def forward(self, batch: Batch, rows: slice) -> ForwardPass:
        """Pass some states through the online network, with the continuous action taken in them
        where values depend on it; and their next states through both."""
        network, ahead = self._online, None
        recalled, s_t = self._recall(batch, rows), rows_of(batch.next_states, rows)
        encoded = network.encode(*rows_of(batch.states, rows), state=recalled.state)
        if network.follows_gradient or not network.sizes:
            squashed = None
            if network.follows_gradient:
                squashed = network.to_squashed(batch.continuous[rows])
            head_outputs = network.head_outputs(encoded, squashed)
            if network.sizes:
                with torch.no_grad():
                    ahead = _head_outputs(network, s_t, recalled.next_online)
        else:
            with torch.no_grad():
                encoded_t = network.encode(*s_t, state=recalled.next_online)
            head_outputs, ahead = network.head_outputs_of_both(encoded, encoded_t)
        value_params = network.value_params(head_outputs)
        targets = self._targets(batch, rows, ahead, recalled)
        return ForwardPass(encoded, head_outputs, value_params, targets)

    def weights(
        self, batch: Batch, parts: Sequence[slice], passes: Sequence[ForwardPass]
    ) -> Tensor:
        """The advantage weight of each row, [B]: 1 where no loss takes it.

        `passes` are those of `parts`, where `compares_by_critic` says so.
        """
        settings = self._advantage
        if not self._weighted:
            return torch.ones_like(batch.rewards)
        signal = batch.rewards
        if settings.signal == "return":
            signal = batch.returns
        elif settings.signal == "critic":
            advantages = [
                self._advantages(batch, rows, forward)
                for rows, forward in zip(parts, passes, strict=True)
            ]
            signal = torch.cat(advantages)
        return self._union.advantage_weights(signal, batch.actors, settings)

    @torch.no_grad()
    def _advantages(self, batch: Batch, rows: slice, forward: ForwardPass) -> Tensor:
        """What the actions taken are worth beyond the state by the critic, [b]: Q(s, a) - V(s), V
        being that of the best choices, means over branches.

        Where Q does not depend on the continuous heads, the TD target stands for Q(s, a): it is a
        sample of what the whole action was worth.
        """
        network = self._online
        q = network.values.q(forward.value_params)
        if not network.sizes:
            return network.values.mean(forward.target) - q[:, 0]
        choices = best_choices(masked(q, batch.legal_in(rows)), network.sizes)
        best = q.gather(1, choices + network.offsets).mean(1)
        if self._regresses and not network.follows_gradient:
            return network.values.mean(forward.target) - best
        taken = network.columns(batch.discrete[rows], batch.continuous[rows])
        return q.gather(1, taken).mean(1) - best

    def shown(self, batch: Batch) -> ClonedActions:
        """The actions to clone, for `coefficients`. They depend on no parameter: of several batches
        they are best found at once."""
        return self._cloning.actions(batch)

    def coefficients(
        self, batch: Batch, weights: Tensor, cloning: float, shown: ClonedActions
    ) -> LossCoefficients:
        """What multiplies each row's losses. `weights` [B]: advantage weights. `cloning`: the
        weight of cloning the actions `shown`."""
        imitation, network = self._imitation, self._online
        plain = batch.importance / self._union.rows(len(weights))
        if self._actor_factors is not None:
            plain = plain * self._actor_factors.index_select(0, batch.actors)
        weighted = plain * weights if self._weighted else plain

        def coefficient(loss: str) -> Tensor:
            return weighted if loss in self._weighted else plain

        cloned = None
        if cloning:
            cloned = shown._replace(weight=shown.weight * plain * cloning)
        regression = policy = entropy = None
        if self._regresses:
            if network.follows_gradient:
                policy = plain * self._learner.continuous_weight
            else:
                regression = coefficient("continuous") * self._learner.continuous_weight
        if network.sizes and imitation.taken:
            entropy = coefficient("imitation") * imitation.taken
        return LossCoefficients(coefficient("td"), regression, entropy, cloned, policy)

    def loss(
        self,
        batch: Batch,
        rows: slice,
        forward: ForwardPass,
        coefficients: LossCoefficients,
    ) -> tuple[Tensor, Tensor]:
        """For some rows: their loss [b]; and, without gradient and side by side, |TD error|, Q, and
        the losses of values, continuous heads and imitation, [b, 5]."""
        network = self._online
        encoded, _, value_params, target = forward
        taken, value_params_taken = None, value_params
        if network.sizes:
            taken = network.columns(batch.discrete[rows], batch.continuous[rows])
            value_params_taken = take_columns(value_params, taken)
        td = over_branches(network.values.loss(value_params_taken, target)) * coefficients.td
        with torch.no_grad():
            q_taken = network.values.q(value_params_taken)
            td_error = over_branches((network.values.mean(target)[:, None] - q_taken).abs_())
            q_taken = over_branches(q_taken)
            continuous = imitation = torch.zeros_like(td)

        loss = td
        shown = coefficients.cloning is not None
        if self._regresses and (shown or coefficients.regression is not None):
            continuous = self._regression(batch.continuous[rows], forward, coefficients)
            loss = loss + continuous
        if coefficients.policy is not None:
            values = self._policy_values(encoded, batch.legal_in(rows))
            policy = dpg_loss(values) * coefficients.policy
            continuous = continuous + policy
            loss = loss + policy
        if taken is not None and (shown or coefficients.cross_entropy is not None):
            q = network.values.q(value_params)
            imitation = self._imitation_loss(q, taken, coefficients, batch.legal_in(rows))
            loss = loss + imitation
        with torch.no_grad():
            measured = torch.stack((td_error, q_taken, td, continuous, imitation), dim=1)
        return loss, measured

    def _imitation_loss(
        self,
        q_tm1: Tensor,
        columns_tm1: Tensor,
        coefficients: LossCoefficients,
        legal_tm1: Tensor | None,
    ) -> Tensor:
        """Towards the choices taken, and towards those shown, together, [b]; from Q [b, choices]
        and the columns of the choices taken, int64 [b, branches]. What is not legal competes with
        neither."""
        sizes, settings = self._online.sizes, self._imitation
        losses = []
        if coefficients.cross_entropy is not None:
            rivals = masked(q_tm1, legal_tm1, columns_tm1)
            entropy = cross_entropy_loss(rivals, columns_tm1, sizes, settings.temperature)
            losses.append(entropy * coefficients.cross_entropy)
        if (cloning := coefficients.cloning) is not None:
            columns = self._online.columns(cloning.discrete, cloning.continuous)
            rivals = masked(q_tm1, legal_tm1, columns)
            if settings.loss == "margin":
                cloned = large_margin_loss(rivals, columns, sizes, settings.margin)
            else:
                cloned = cross_entropy_loss(rivals, columns, sizes, settings.temperature)
            losses.append(cloned * cloning.weight)
        return sum(losses[1:], losses[0])

    def _regression(
        self, taken: Tensor, forward: ForwardPass, coefficients: LossCoefficients
    ) -> Tensor:
        """Of the continuous heads towards the action taken, [b, C], and that shown: together,
        [b]."""
        network = self._online
        squashed = (
            network.act(forward.encoded)
            if network.follows_gradient
            else network.squashed(forward.head_outputs)
        )
        losses = []
        if coefficients.regression is not None:
            to_taken = regression_loss(squashed, network.to_squashed(taken))
            losses.append(to_taken * coefficients.regression)
        if (cloning := coefficients.cloning) is not None:
            to_shown = regression_loss(squashed, network.to_squashed(cloning.continuous))
            losses.append(to_shown * cloning.weight)
        return sum(losses[1:], losses[0])

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


def _head_outputs(network: QNetwork, states: Sequence[Tensor], state: Tensor | None) -> Tensor:
    """The network's last layer on states, with the policy's own action where values depend on
    it."""
    encoded = network.encode(*states, state=state)
    squashed = network.act(encoded) if network.follows_gradient else None
    return network.head_outputs(encoded, squashed)
