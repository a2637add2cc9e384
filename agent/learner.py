"""One optimiser step: double DQN on the discrete heads, advantage-weighted regression towards the
action taken on the continuous heads, each actor's rows told apart throughout.

    loss = sum over rows i of  a_i * mean over heads of huber(TD error)
                             + b_i * mean over columns of (network's action - action taken)^2

with continuous actions in units of half their range. a_i and b_i hold 1/B, the constant factor of
the row's actor, the weight of the continuous loss and, where `applies_to` says so, the advantage
weight. They depend on no parameter, so masking them by actor splits the gradient by actor.

Nothing in `step` waits for the device.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agent.advantage import advantage_weights, normalise_weights
from agent.checkpoint import CheckpointError
from agent.diagnostics import Diagnostics
from agent.networks import QNetwork
from agent.policy import flatten_parameters
from agent.targets import double_dqn_targets, hard_update, soft_update, value_targets
from config.models import AdvantageConfig, LearnerConfig
from protocol.actor import ACTORS, NAMES
from protocol.spaces import GameSpec

if TYPE_CHECKING:
    from agent.replay import Batch

CPU_ROWS = 2048
"""Rows that pass through the network at a time on the cpu, so that a layer's activations (2 MB at
256 units) are still in the cache when the next layer and the backward pass read them. Gradients
add up over the parts: the step is the same."""


class Learner:
    """A network, its target network, the optimiser, and what they learn from a batch."""

    def __init__(
        self,
        spec: GameSpec,
        learner: LearnerConfig,
        advantage: AdvantageConfig,
        *,
        device: torch.device | str,
        seed: int | None = None,
    ) -> None:
        """`seed` fixes the first weights, the same on every device. None: torch's generator."""
        self._config = learner
        self._advantage = advantage
        self.network = _network(spec, learner, seed).to(device)
        """The online network. Its parameters are views of one vector: never move or replace it."""
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.updates = 0
        """Optimiser steps made."""
        # One vector for all parameters: clipping, Adam, target update are an operation each.
        self._vector = nn.Parameter(flatten_parameters(self.network))
        self._target_vector = flatten_parameters(self.target)
        self._gradients = self._vector.new_zeros(len(ACTORS), len(self._vector))
        self._gradient_views = [_views(vector, self.network) for vector in self._gradients]
        self._vector.grad = self._gradients[0]
        self._gather_into(0)
        device = self._vector.device
        self._optimiser = torch.optim.Adam(
            [self._vector],
            lr=learner.learning_rate,
            eps=learner.adam_eps,
            fused=True,
            capturable=device.type == "cuda",
        )
        self._rows_at_a_time = CPU_ROWS if device.type == "cpu" else None
        self._actors = torch.tensor(ACTORS, device=device)
        self._weighted = set(advantage.applies_to)
        if not spec.continuous:
            self._weighted.discard("continuous")
        # What each actor's rows have in a_i and b_i beside 1/B and the advantage weight.
        factor_of = {str(name): factor for name, factor in advantage.actor_factor.items()}
        factors = [[factor_of.get(NAMES[actor], 1.0)] for actor in ACTORS]
        heads, columns = max(len(spec.discrete), 1), max(len(spec.continuous_columns), 1)
        parts = [[1 / heads, learner.continuous_weight / columns]]
        self._factors = torch.tensor(factors, device=device) @ torch.tensor(parts, device=device)
        self._diagnostics = Diagnostics(device, heads=heads, columns=len(spec.continuous_columns))

    def step(self, batch: Batch) -> None:
        """Learn from a batch, which must be on this learner's device: one optimiser step."""
        masks = (batch.actors[:, None] == self._actors).to(torch.float32)
        weights = self._weights(batch)
        a, b = self._scales(weights, masks)
        by_actor = self.updates % self._config.grad_norm_every == 0

        self._gradients.zero_()
        found = []
        size = self._rows_at_a_time or len(weights)
        for start in range(0, len(weights), size):
            rows = slice(start, start + size)
            loss, measured = self._loss(batch, rows, a[rows], b[rows])
            if by_actor:
                self._backward_by_actor(loss, masks[rows])
            else:
                loss.sum().backward()  # type: ignore[no-untyped-call]
            found.append(measured)

        if by_actor:
            self._diagnostics.actor_norms(masks, torch.linalg.vector_norm(self._gradients, dim=1))
            self._gradients[0] += self._gradients[1:].sum(0)
        norm = self._clip()
        self._optimiser.step()
        self.updates += 1
        self._follow()
        measured = torch.cat(found) if len(found) > 1 else found[0]
        self._diagnostics.update(self.updates, masks, batch.rewards, weights, measured, norm)

    def metrics(self) -> dict[str, float]:
        """`agent.diagnostics.METRICS`, means since the last call. Waits for the device, once."""
        return self._diagnostics.fetch()

    def batch_lines(self) -> list[str]:
        """The log lines due since the last call, one for every 100th batch."""
        return self._diagnostics.batch_lines()

    def policy_vector(self) -> Tensor:
        """All parameters of the network, float32 [n] on the cpu, a copy, in the order of
        `torch.nn.utils.parameters_to_vector`."""
        return self._vector.detach().to("cpu", copy=True)

    def state_dict(self) -> dict[str, Any]:
        """Copies on the cpu of all that a step depends on: keep or save them while learning."""
        state = self._optimiser.state_dict()["state"].get(0, {})
        return {
            "network": _copies(self.network.state_dict()),
            "target": _copies(self.target.state_dict()),
            "adam": _copies(state),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`. Settings (learning rate and the like) stay this learner's.

        Errors: CheckpointError where the state is that of a network of another shape.
        """
        _check_shapes(self.network, state["network"])
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        groups = self._optimiser.state_dict()["param_groups"]
        adam = {0: _copies(state["adam"])} if state["adam"] else {}
        self._optimiser.load_state_dict({"state": adam, "param_groups": groups})
        self.updates = state["updates"]

    def _weights(self, batch: Batch) -> Tensor:
        """The advantage weight of each row, [B]: 1 where no loss takes it."""
        settings = self._advantage
        weights = advantage_weights(
            batch.rewards,
            batch.actors,
            beta=settings.beta,
            clip=settings.clip,
            weight_min=settings.weight_min,
            weight_max=settings.weight_max,
            mode=settings.mode if self._weighted else "off",
        )
        return normalise_weights(weights, batch.actors) if settings.normalise else weights

    def _scales(self, weights: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """a_i over the number of discrete heads and b_i over that of continuous columns, [B, 1]."""
        plain = 1 / len(weights)
        weighted = weights[:, None] * plain
        a, b = torch.split(masks @ self._factors, 1, dim=1)
        a = a * (weighted if "td" in self._weighted else plain)
        b = b * (weighted if "continuous" in self._weighted else plain)
        return a, b

    def _loss(self, batch: Batch, rows: slice, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """For some rows: their loss [b]; and, without gradient and side by side, |TD error|, Q and
        TD loss of each head and the loss of each continuous column, [b, 3 * heads + C]."""
        network = self.network
        target = self._targets(batch, rows)[:, None]
        raw = network.raw(batch.states[rows])
        # Without discrete heads there is no Q: the value of the state is learnt alone.
        columns = batch.discrete[rows] + network.offsets
        q = network.q(raw).gather(1, columns) if network.sizes else raw[:, :1]
        target = target.expand_as(q)
        huber = F.huber_loss(q, target, reduction="none", delta=self._config.huber_delta) * a
        off = network.unit(raw) - network.to_unit(batch.continuous[rows])
        losses = torch.cat((huber, off.square() * b), dim=1)
        with torch.no_grad():
            measured = torch.cat(((q - target).abs_(), q, losses), dim=1)
        return losses.sum(1), measured

    def _backward_by_actor(self, loss: Tensor, masks: Tensor) -> None:
        """Add each actor's part of the gradient to a row of `_gradients`; `masks` [b, actors]. The
        parts add up to the whole gradient, so this takes one backward pass more, not three."""
        for i, mask in enumerate(masks.T):
            self._gather_into(i)
            loss.backward(mask, retain_graph=i < len(ACTORS) - 1)  # type: ignore[no-untyped-call]
        self._gather_into(0)

    def _gather_into(self, row: int) -> None:
        """Have backward passes add to this row of `_gradients`."""
        views = self._gradient_views[row]
        for parameter, view in zip(self.network.parameters(), views, strict=True):
            parameter.grad = view

    @torch.no_grad()
    def _targets(self, batch: Batch, rows: slice) -> Tensor:
        """What Q, or without discrete heads the value, should have been; [b]."""
        r_t, discount_t, s_t = batch.returns[rows], batch.discounts[rows], batch.next_states[rows]
        online, target = self.network, self.target
        judged = target.raw(s_t)
        if not online.sizes:
            return value_targets(r_t, discount_t, judged[:, 0])
        q_t_value, q_t_selector = target.q(judged), online.q(online.raw(s_t))
        return double_dqn_targets(
            r_t, discount_t, q_t_value, q_t_selector, online.sizes, online.offsets
        )

    def _clip(self) -> Tensor:
        """Scale the gradient down to `grad_clip_norm` if it is longer; its norm before that."""
        gradient = self._gradients[0]
        norm: Tensor = torch.linalg.vector_norm(gradient)
        gradient *= (self._config.grad_clip_norm / (norm + 1e-6)).clamp_(max=1.0)
        # One bad batch must not destroy the network: the metrics show the NaN, the step is empty.
        gradient.masked_fill_(~norm.isfinite(), 0.0)
        return norm

    def _follow(self) -> None:
        """Let the target network follow."""
        if self._config.target == "soft":
            soft_update([self._target_vector], [self._vector], self._config.target_tau)
        elif self.updates % self._config.target_every == 0:
            hard_update([self._target_vector], [self._vector])


def _network(spec: GameSpec, learner: LearnerConfig, seed: int | None) -> QNetwork:
    """A network with first weights from the seed, made on the cpu and so the same everywhere."""
    if seed is None:
        return QNetwork(spec, learner.hidden)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return QNetwork(spec, learner.hidden)


def _views(vector: Tensor, network: nn.Module) -> list[Tensor]:
    """A vector as tensors of the shapes of the network's parameters, in their order."""
    parameters = list(network.parameters())
    parts = torch.split(vector, [p.numel() for p in parameters])
    return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _check_shapes(network: nn.Module, state: dict[str, Tensor]) -> None:
    expected = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    came = {name: list(tensor.shape) for name, tensor in state.items()}
    if expected != came:
        raise CheckpointError(
            f"the checkpoint is of another network: expected {expected}, got {came}; "
            "resume with the settings that it was saved with (learner.hidden), or start a new run"
        )
