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

import torch
from torch import Tensor

from agent.batch import Batch
from agent.legal import masked
from agent.networks import QNetwork
from agent.past import recall
from agent.row_losses import ForwardPass, LossCoefficients, Losses, RowLosses, Wanted
from agent.targets import best_choices, double_dqn
from agent.union import Union
from config.models import AdvantageConfig, ImitationConfig, LearnerConfig
from protocol.actor import ACTORS, NAMES
from protocol.spaces import GameSpec


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
        self._losses = Losses(online, imitation, spec)
        self._dense, self._dense_target = online.dense(), target.dense()
        self._learnt: list[Tensor] = [p for p in online.parameters() if p.requires_grad]
        self._encoders = online.learnt_in_front()
        # Weights of half the precision have such gradients, which are then added up in float32.
        self._halves: list[Tensor] = []
        if any(each.dtype != torch.float32 for each in self._learnt):
            self._halves = [torch.empty_like(each, requires_grad=False) for each in self._learnt]
        # Looked up once: a module takes as long for it as for a small operation.
        self._values, self._value_params = online.values, online.value_params.forward
        self._value_params_t = target.value_params.forward
        self._ones = torch.ones(0, device=online.middle.device)
        self._weighted = set(advantage.applies_to)
        """The losses that take the advantage weight."""
        if online.follows_gradient or not self._losses.regresses:
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

    def forward(self, batch: Batch) -> ForwardPass:
        """Pass some states through the online network, with the continuous action taken in them
        where values depend on it; and their next states through both."""
        network, target, n = self._online, self._target, len(batch)
        recalled = recall(network, target, batch.past, self._learner.memory_burn_in)
        encoded = network.encode(*batch.states, state=recalled.state)
        with torch.no_grad():
            ahead = network.encode(*batch.next_states, state=recalled.next_online)
            # What no parameter stands in front of looks the same to both networks.
            ahead_of_target = ahead
            if self._encoders:
                state = recalled.next_target
                ahead_of_target = target.encode(*batch.next_states, state=state)
        inputs = None
        if self._dense is not None and self._dense_target is not None:
            x, x_t = encoded, ahead_of_target
            if x.requires_grad:
                x = x.detach()
            if self._halves:
                x, ahead, x_t = (each.to(self._dense.dtype) for each in (x, ahead, x_t))
            *inputs, outputs = self._dense.forward(*((x, ahead) if network.sizes else (x,)))
            inputs = [x, *(each[:n] for each in inputs)]
            of_target = self._dense_target.forward(x_t)[-1]
            if self._halves:
                outputs, of_target = outputs.float(), of_target.float()
            head_outputs, head_outputs_t = outputs[:n], outputs[n:]
        else:
            squashed = network.to_squashed(batch.continuous)
            head_outputs = network.head_outputs(encoded, squashed)
            with torch.no_grad():
                head_outputs_t = network.head_outputs(ahead, network.act(ahead))
                of_target = target.head_outputs(ahead_of_target, target.act(ahead_of_target))
        with torch.no_grad():
            value_params = self._value_params(head_outputs)
            targets = self._targets(batch, head_outputs_t, of_target)
        return ForwardPass(encoded, inputs, head_outputs, value_params, targets)

    def _targets(self, batch: Batch, head_outputs_t: Tensor, of_target: Tensor) -> Tensor:
        """What the values should have been, [b, K], from what the two networks make of the next
        states, [b, outputs] each; the online network's is not asked for without choices."""
        network = self._online
        value_params_t = self._value_params_t(of_target)
        if network.sizes:
            q_t = masked(network.preferences(head_outputs_t), batch.next_legal)
            value_params_t = double_dqn(value_params_t, q_t, network.sizes, network.offsets)
        r_t, discount_t = batch.returns / self._scale, batch.discounts
        return self._values.targets(r_t, discount_t, value_params_t)

    def rescaled(self, forward: ForwardPass, factor: Tensor) -> ForwardPass | None:
        """What a pass would be now that values are said in another unit, `factor` [] times as many
        of them; None where it has to be made anew."""
        if forward.inputs is None:
            return None  # autograd has kept weights that are others now
        outputs = self._online.value_outputs
        head_outputs = forward.head_outputs.clone()
        head_outputs[:, :outputs] *= factor
        return forward._replace(
            head_outputs=head_outputs,
            value_params=forward.value_params * factor,
            target=forward.target * factor,
        )

    def backward(
        self,
        forward: ForwardPass,
        losses: RowLosses,
        mask: Tensor | None,
        into: list[Tensor],
        add: bool,
    ) -> None:
        """Put the gradient of some rows' losses, each times a number of `mask` [b], into tensors
        like the parameters that learn, or add it to them."""
        of_outputs = losses.gradient if mask is None else losses.gradient * mask[:, None]
        put = torch._foreach_add_ if add else torch._foreach_copy_
        if self._dense is None or forward.inputs is None:
            objective = (forward.head_outputs * of_outputs).sum()
            if (each := losses.by_autograd) is not None:
                objective = objective + (each if mask is None else each * mask).sum()
            put(into, _by_autograd(objective, self._learnt))
            return
        # Halves are added up in float32.
        found, add_here = (self._halves, False) if self._halves else (into, add)
        of_inputs = self._dense.backward(
            forward.inputs,
            of_outputs.to(self._dense.dtype) if self._halves else of_outputs,
            found[len(self._encoders) :],
            add=add_here,
            of_input=bool(self._encoders),
        )
        if self._halves:
            put(into[len(self._encoders) :], self._halves[len(self._encoders) :])
        if of_inputs is not None:
            objective = (forward.encoded * of_inputs).sum()
            put(into[: len(self._encoders)], _by_autograd(objective, self._encoders))

    def weights(
        self, batch: Batch, parts: Sequence[Batch], passes: Sequence[ForwardPass]
    ) -> Tensor:
        """The advantage weight of each row, [B]: 1 where no loss takes it.

        `passes` are those of `parts`, where `compares_by_critic` says so.
        """
        settings = self._advantage
        if not self._weighted:
            if self._ones.shape != batch.rewards.shape:
                self._ones = torch.ones_like(batch.rewards)
            return self._ones
        signal = batch.rewards
        if settings.signal == "return":
            signal = batch.returns
        elif settings.signal == "critic":
            signal = torch.cat(list(map(self._advantages, parts, passes)))
        return self._union.advantage_weights(signal, batch.actors, settings)

    @torch.no_grad()
    def _advantages(self, batch: Batch, forward: ForwardPass) -> Tensor:
        """What the actions taken are worth beyond the state by the critic, [b]: Q(s, a) - V(s), V
        being that of the best choices, means over branches.

        Where Q does not depend on the continuous heads, the TD target stands for Q(s, a): it is a
        sample of what the whole action was worth.
        """
        network = self._online
        q = network.values.q(forward.value_params)
        if not network.sizes:
            return network.values.mean(forward.target) - q[:, 0]
        choices = best_choices(masked(q, batch.legal), network.sizes)
        best = q.gather(1, choices + network.offsets).mean(1)
        if self._losses.regresses and not network.follows_gradient:
            return network.values.mean(forward.target) - best
        taken = network.columns(batch.discrete, batch.continuous)
        return q.gather(1, taken).mean(1) - best

    def wanted(self, batch: Batch, batch_size: int, cloning: float | Tensor) -> Wanted:
        """What is wanted of the rows of a batch, or of several of `batch_size` in one: it depends
        on no parameter. `cloning`: the weight of cloning."""
        plain = batch.importance / self._union.rows(batch_size)
        if self._actor_factors is not None:
            plain = plain * self._actor_factors.index_select(0, batch.actors)
        return self._losses.wanted(batch, plain, cloning)

    def coefficients(self, plain: Tensor, weights: Tensor) -> LossCoefficients:
        """What multiplies each row's losses. `plain` [B]: of Wanted. `weights` [B]: advantage
        weights."""
        imitation, network = self._imitation, self._online
        weighted = plain * weights if self._weighted else plain

        def coefficient(loss: str) -> Tensor:
            return weighted if loss in self._weighted else plain

        regression = policy = entropy = None
        if network.follows_gradient:
            policy = plain * self._learner.continuous_weight
        elif self._losses.regresses:
            regression = coefficient("continuous") * self._learner.continuous_weight
        if network.sizes and imitation.taken:
            entropy = coefficient("imitation") * imitation.taken
        return LossCoefficients(coefficient("td"), regression, entropy, policy)

    def losses(
        self, batch: Batch, forward: ForwardPass, wanted: Wanted, coefficients: LossCoefficients
    ) -> RowLosses:
        """Of a batch, or a part of it, and what there is of it."""
        return self._losses.of(batch, forward, wanted, coefficients)


def _by_autograd(objective: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    """The gradient of a sum; what it was made from is kept for that of another actor."""
    return list(
        torch.autograd.grad(objective, parameters, retain_graph=True, materialize_grads=True)
    )
