"""One optimizer step: double DQN on the discrete branches, advantage-weighted regression or the
gradient of Q on the continuous heads, imitation beside both; each actor's rows told apart
throughout.

    loss = sum over rows i of  a_i * mean over branches of the value head's loss
                             + b_i * mean over columns of (network's action - action taken)^2
                             + c_i * cross entropy of the choices with those taken
                             + d_i * large margin of the choices over those taken
                             - e_i * Q of the policy's continuous action

with continuous actions in units of half their range. The factors hold 1/B, the importance of the
row (1 without prioritised replay), the constant factor of its actor, the weight of the loss, and,
where `advantage.applies_to` says so, the row's advantage weight. They depend on no parameter, so
masking them by actor splits the gradient by actor.

Nothing in `step` waits for the device.
"""

from __future__ import annotations

import copy
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from agent.adam import Adam
from agent.advantage import advantage_weights, normalise_weights
from agent.checkpoint import CheckpointError
from agent.diagnostics import LOSSES, Diagnostics
from agent.heads import HeadNumbers, head_numbers
from agent.imitation import cross_entropy, large_margin
from agent.networks import QNetwork
from agent.normaliser import RunningStatistics
from agent.policy import flatten_parameters
from agent.schedules import learning_rate, scheduled
from agent.targets import best_choices, double_dqn, hard_update, of_columns, soft_update
from config.models import AdvantageConfig, ImitationConfig, LearnerConfig
from protocol.actor import ACTORS, NAMES, Actor
from protocol.spaces import GameSpec

if TYPE_CHECKING:
    from agent.replay import Batch

CPU_ROWS = 2048
"""Rows that pass through the network at a time on the cpu, so that a layer's activations (2 MB at
256 units) are still in the cache when the next layer and the backward pass read them. Gradients
add up over the parts: the step is the same."""

POLICY_SCALE = 1e-3
"""Added to the mean |Q| that the policy's loss is divided by."""


class Factors(NamedTuple):
    """What multiplies each row's losses, [B] each; None where no row has that loss."""

    td: Tensor
    regression: Tensor | None
    cross_entropy: Tensor | None
    margin: Tensor | None
    policy: Tensor | None

    def of(self, rows: slice) -> Factors:
        return Factors(*(None if each is None else each[rows] for each in self))  # type: ignore[arg-type]


class Pass(NamedTuple):
    """What came of b states in the network that learns, with a gradient."""

    x: Tensor
    """The states, encoded."""
    raw: Tensor
    """The last layer."""
    z: Tensor
    """Of each choice, [b, choices, K]."""


class Learner:
    """A network, its target network, the optimizer, and what they learn from a batch."""

    def __init__(
        self,
        spec: GameSpec,
        learner: LearnerConfig,
        advantage: AdvantageConfig,
        imitation: ImitationConfig,
        *,
        device: torch.device | str,
        seed: int | None = None,
        frame_stack: int = 1,
    ) -> None:
        """`seed` fixes the first weights, the same on every device. None: torch's generator.
        `frame_stack`: frames in an observation of a batch (`replay.frame_stack`)."""
        self.network = _network(spec, learner, seed, frame_stack).to(device)
        """The online network. Its parameters are views of one vector: never move or replace it."""
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.updates = 0
        """Optimizer steps made."""
        self.statistics: RunningStatistics | None = None
        """Of the observations, where they are normalised."""
        if self.network.normalises:
            self.statistics = RunningStatistics(spec.observation_size)
        # One vector for all parameters: clipping, Adam, target update are an operation each.
        self._vector = nn.Parameter(flatten_parameters(self.network))
        self._target_vector = flatten_parameters(self.target)
        self._gradients = self._vector.new_zeros(len(ACTORS), len(self._vector))
        learns = [parameter.requires_grad for parameter in self.network.parameters()]
        self._gradient_views = [
            list(compress(_views(vector, self.network), learns)) for vector in self._gradients
        ]
        """Those of the parameters that learn, each actor's."""
        self._names = list(compress((n for n, _ in self.network.named_parameters()), learns))
        device = self._vector.device
        cuda = device.type == "cuda"
        self._optimizer = Adam(self._vector, lr=learner.learning_rate, eps=learner.adam_eps)
        # 1 where the step just made must not count. The optimizer leaves all as it was then, its
        # own state too, and nobody has to wait to know.
        self._bad = torch.zeros((), device=device)
        self.rate_factor = 1.0
        """What the configured learning rate is multiplied by: lower after going back from numbers
        that went bad (agent.rollback)."""
        self._last_states: Tensor | None = None
        self._rows_at_a_time = None if cuda else CPU_ROWS
        self._spec = spec
        self._actors = torch.tensor(ACTORS, device=device)
        self._expert = ACTORS.index(Actor.EXPERT)
        self._heads, self._columns = len(spec.discrete), len(spec.continuous_columns)
        self._regresses = self._columns > 0 and not self.network.bins
        self._diagnostics = Diagnostics(device)
        self.configure(learner, advantage, imitation)

    def configure(
        self, learner: LearnerConfig, advantage: AdvantageConfig, imitation: ImitationConfig
    ) -> None:
        """From the next step on these settings hold. What shapes the network (hidden, value, atoms,
        continuous, bins, trunk, normalize_observations) must be what it was made with."""
        self._config, self._advantage, self._imitation = learner, advantage, imitation
        self._weighted = set(advantage.applies_to)
        if self.network.bins or self.network.follows_gradient or not self._columns:
            self._weighted.discard("continuous")
        if not (imitation.taken and self.network.sizes):
            self._weighted.discard("imitation")
        if advantage.mode == "off":
            self._weighted.clear()
        factor_of = {str(name): factor for name, factor in advantage.actor_factor.items()}
        factors = [[factor_of.get(NAMES[actor], 1.0)] for actor in ACTORS]
        self._actor_factors = torch.tensor(factors, device=self._vector.device)
        # What batches pass through: the networks themselves, or copies of half their precision.
        self._online, self._judge = self.network, self.target
        self._halves: list[tuple[Tensor, Tensor]] = []
        if learner.precision == "bfloat16":
            self._online, online = _in_bfloat16(self.network, self._vector)
            self._judge, judge = _in_bfloat16(self.network, self._target_vector)
            self._halves = [(online, self._vector), (judge, self._target_vector)]
        self._learnt = [p for p in self._online.parameters() if p.requires_grad]

    def observe(self, obs: npt.NDArray[Any]) -> None:
        """Count observations [n, observation_size] in, where they are normalised."""
        if self.statistics is not None:
            self.statistics.update(obs)
            self._show_statistics()

    def step(self, batch: Batch, frames: int = 0) -> Tensor:
        """Learn from a batch, which must be on this learner's device: one optimizer step.

        `frames`: stored frames of the run, which the weight of cloning goes by. Returns |TD error|
        of each row, the mean over branches, float32 [B].
        """
        with torch.no_grad():
            for half, whole in self._halves:
                half.copy_(whole)
        masks = (batch.actors[:, None] == self._actors).to(torch.float32)
        parts = self._parts(len(batch))
        targets = _joined([self._targets(batch, rows) for rows in parts])
        # The critic is asked about the same pass that learns, so that asking it costs no other.
        asked = bool(self._weighted) and self._advantage.signal == "critic"
        passes = [self._pass(batch, rows) for rows in parts] if asked else []
        weights = self._weights(batch, targets, parts, passes)
        factors = self._factors(batch, weights, masks, frames)
        by_actor = self.updates % self._config.grad_norm_every == 0

        found: list[Tensor] = []
        for i, rows in enumerate(parts):
            seen = passes[i] if asked else self._pass(batch, rows)
            loss, measured = self._loss(batch, rows, seen, targets[rows], factors.of(rows))
            self._backward(loss, masks[rows] if by_actor else None, first=not found)
            found.append(measured)

        if by_actor:
            self._diagnostics.actor_norms(masks, torch.linalg.vector_norm(self._gradients, dim=1))
            self._gradients[0] += self._gradients[1:].sum(0)
        norm = self._clip()
        measured = _joined(found)
        # One bad batch must not destroy the network: the step is empty, and counted.
        finite = norm.isfinite() & measured[:, LOSSES].sum().isfinite()
        self._bad.copy_(finite.logical_not())
        self._optimizer.lr = self._learning_rate()
        self._optimizer.step(self._gradients[0], self._bad)
        self.updates += 1
        self._follow()
        self._last_states = batch.states
        self._diagnostics.update(
            self.updates, masks, batch.rewards, weights, measured, norm, self._bad
        )
        return measured[:, 0]

    def metrics(self) -> dict[str, float]:
        """`agent.diagnostics.METRICS`, means since the last call. Waits for the device, once."""
        return self._diagnostics.fetch() | {"learning_rate": self._learning_rate()}

    def skipped_in_a_row(self) -> float:
        """The most skipped updates in a row since `metrics` was called. Waits for the device."""
        return self._diagnostics.skipped_in_a_row()

    def heads(self) -> list[HeadNumbers]:
        """What each head did on the batch learnt from last (agent.heads). Waits for the device,
        once. Empty without an update."""
        if self._last_states is None:
            return []
        gradients = dict(zip(self._names, self._gradient_views[0], strict=True))
        return head_numbers(self.network, self._spec, self._last_states, gradients)

    def batch_lines(self) -> list[str]:
        """The log lines due since the last call, one for every 100th batch."""
        return self._diagnostics.batch_lines()

    def policy_vector(self) -> Tensor:
        """All parameters of the network, float32 [n] on the cpu, a copy, in the order of
        `torch.nn.utils.parameters_to_vector`."""
        return self._vector.detach().to("cpu", copy=True)

    def state_dict(self) -> dict[str, Any]:
        """Copies on the cpu of all that a step depends on: keep or save them while learning."""
        out = {
            "network": _copies(self.network.state_dict()),
            "target": _copies(self.target.state_dict()),
            "adam": _copies(self._optimizer.state_dict()),
            "updates": self.updates,
            "rate_factor": self.rate_factor,
        }
        if self.statistics is not None:
            out["observations"] = self.statistics.get_state()
        return out

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`. Settings (learning rate and the like) stay this learner's.

        Errors: CheckpointError where the state is that of a network of another shape.
        """
        _check_shapes(self.network, state["network"])
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        self._optimizer.load_state_dict(state["adam"])
        self.updates = state["updates"]
        self.rate_factor = state.get("rate_factor", 1.0)  # older checkpoints have none
        self._diagnostics.begin_anew()
        if self.statistics is not None:
            self.statistics.set_state(state["observations"])

    def _parts(self, rows: int) -> list[slice]:
        """The rows that pass through the network together."""
        size = self._rows_at_a_time or rows
        return [slice(start, start + size) for start in range(0, rows, size)]

    @torch.no_grad()
    def _targets(self, batch: Batch, rows: slice) -> Tensor:
        """What the values should have been, [b, K]."""
        r_t, discount_t, s_t = batch.returns[rows], batch.discounts[rows], batch.next_states[rows]
        online, target = self._online, self._judge
        z_t = target.z(self._raw(target, s_t))
        if online.sizes:
            q_t = online.values.q(online.z(self._raw(online, s_t)))
            z_t = double_dqn(z_t, q_t, online.sizes, online.offsets)
        return online.values.targets(r_t, discount_t, z_t)

    def _raw(self, network: QNetwork, obs: Tensor) -> Tensor:
        """The network's last layer, with the policy's own action where it looks at one."""
        x = network.encode(obs)
        return network.raw(x, network.act(x) if network.follows_gradient else None)

    def _pass(self, batch: Batch, rows: slice) -> Pass:
        """Some states through the network that learns, and the action taken in them where values
        look at it."""
        network, unit = self._online, None
        if network.follows_gradient:
            unit = network.to_unit(batch.continuous[rows])
        x = network.encode(batch.states[rows])
        raw = network.raw(x, unit)
        return Pass(x, raw, network.z(raw))

    def _weights(
        self, batch: Batch, targets: Tensor, parts: list[slice], passes: list[Pass]
    ) -> Tensor:
        """The advantage weight of each row, [B]: 1 where no loss takes it."""
        settings = self._advantage
        if not self._weighted:
            return torch.ones_like(batch.rewards)
        signal = batch.rewards
        if settings.signal == "return":
            signal = batch.returns
        elif settings.signal == "critic":
            signal = _joined([
                self._advantages(batch, rows, seen, targets[rows])
                for rows, seen in zip(parts, passes, strict=True)
            ])  # fmt: skip
        weights = advantage_weights(
            signal,
            batch.actors,
            beta=settings.beta,
            clip=settings.clip,
            weight_min=settings.weight_min,
            weight_max=settings.weight_max,
            mode=settings.mode,
        )
        return normalise_weights(weights, batch.actors) if settings.normalize else weights

    @torch.no_grad()
    def _advantages(self, batch: Batch, rows: slice, seen: Pass, target: Tensor) -> Tensor:
        """What the critic thinks that the actions taken are worth beyond the state, [b]:
        Q(s, a) - V(s), V being that of the best choices, means over branches.

        Where continuous heads are not part of what Q looks at, the TD target stands for Q(s, a):
        it is a sample of what the whole action was worth.
        """
        network = self._online
        q = network.values.q(seen.z)
        if not network.sizes:
            return network.values.mean(target) - q[:, 0]
        best = q.gather(1, best_choices(q, network.sizes) + network.offsets).mean(1)
        if self._regresses and not network.follows_gradient:
            return network.values.mean(target) - best
        taken = network.columns(batch.discrete[rows], batch.continuous[rows])
        return q.gather(1, taken).mean(1) - best

    def _factors(self, batch: Batch, weights: Tensor, masks: Tensor, frames: int) -> Factors:
        """What multiplies each row's losses."""
        settings, imitation, network = self._config, self._imitation, self.network
        plain = (masks @ self._actor_factors).squeeze(1) * (batch.importance / len(weights))
        weighted = plain * weights if self._weighted else plain

        def factor(loss: str) -> Tensor:
            return weighted if loss in self._weighted else plain

        cloning = scheduled(imitation.expert, frames)
        cloned = plain * masks[:, self._expert] * cloning if cloning else None
        regression = policy = entropy = margin = None
        if self._regresses:
            if network.follows_gradient:
                policy = plain * settings.continuous_weight
            else:
                regression = factor("continuous") * settings.continuous_weight
            regression = _sum(regression, cloned)
        if network.sizes:
            entropy = factor("imitation") * imitation.taken if imitation.taken else None
            if imitation.loss == "margin":
                margin = cloned
            else:
                entropy = _sum(entropy, cloned)
        return Factors(factor("td"), regression, entropy, margin, policy)

    def _loss(
        self, batch: Batch, rows: slice, seen: Pass, target: Tensor, factors: Factors
    ) -> tuple[Tensor, Tensor]:
        """For some rows: their loss [b]; and, without gradient and side by side, |TD error|, Q, and
        the losses of values, continuous heads and imitation, [b, 5]."""
        network = self._online
        x, raw, z = seen
        taken = None
        if network.sizes:
            taken = network.columns(batch.discrete[rows], batch.continuous[rows])
        z_taken = z if taken is None else of_columns(z, taken)
        td = network.values.loss(z_taken, target).mean(1) * factors.td
        with torch.no_grad():
            q_taken = network.values.q(z_taken)
            td_error = (network.values.mean(target)[:, None] - q_taken).abs_().mean(1)
            q_taken = q_taken.mean(1)

        loss, none = td, torch.zeros_like(td)
        continuous = imitation = none
        if factors.regression is not None:
            action = network.act(x) if network.follows_gradient else network.unit(raw)
            off = action - network.to_unit(batch.continuous[rows])
            continuous = off.square().mean(1) * factors.regression
            loss = loss + continuous
        if factors.policy is not None:
            worth = self._policy_values(x)
            # The scale of Q is the game's; that of the policy's loss must not be (TD3+BC,
            # Fujimoto and Gu 2021, arXiv:2106.06860).
            risen = worth / (worth.detach().abs().mean() + POLICY_SCALE) * factors.policy
            continuous = continuous - risen
            loss = loss - risen
        if factors.cross_entropy is not None or factors.margin is not None:
            assert taken is not None
            q = network.values.q(z)
            settings = self._imitation
            if factors.cross_entropy is not None:
                entropy = cross_entropy(q, taken, network.sizes, settings.temperature)
                imitation = imitation + entropy * factors.cross_entropy
            if factors.margin is not None:
                above = large_margin(q, taken, network.sizes, settings.margin)
                imitation = imitation + above * factors.margin
            loss = loss + imitation
        with torch.no_grad():
            columns = (td_error, q_taken, td, continuous, imitation)
            measured = torch.stack([column.detach() for column in columns], dim=1)
        return loss, measured

    def _policy_values(self, x: Tensor) -> Tensor:
        """Q of the policy's own continuous action and the best choices with it, [b]; a gradient
        flows to the policy alone (Lillicrap et al. 2016, arXiv:1509.02971; with discrete choices
        beside it Xiong et al. 2018, arXiv:1810.06394)."""
        network = self._online
        x = x.detach()
        raw = network.raw(x, network.act(x), frozen=True)
        q = network.values.q(network.z(raw))
        if not network.sizes:
            return q[:, 0]
        return q.gather(1, best_choices(q, network.sizes) + network.offsets).mean(1)

    def _backward(self, loss: Tensor, masks: Tensor | None, *, first: bool) -> None:
        """Add the gradient of a loss [b] to the first row of `_gradients`, or, with masks [b,
        actors], each actor's part to a row of its own. The parts add up to the whole gradient, so
        that takes one backward pass more, not three. `first`: nothing is to be added to."""
        # A sum for each: with a vector of weights instead, autograd imports torch's compiler.
        objectives = [loss.sum()] if masks is None else [(loss * mask).sum() for mask in masks.T]
        into = torch._foreach_copy_ if first else torch._foreach_add_
        for views, objective in zip(self._gradient_views, objectives, strict=False):
            gradients = torch.autograd.grad(
                objective, self._learnt, retain_graph=objective is not objectives[-1],
                materialize_grads=True,
            )  # fmt: skip
            into(views, gradients)

    def _clip(self) -> Tensor:
        """Scale the gradient down to `grad_clip_norm` if it is longer; its norm before that."""
        gradient = self._gradients[0]
        norm: Tensor = torch.linalg.vector_norm(gradient)
        gradient *= (self._config.grad_clip_norm / (norm + 1e-6)).clamp_(max=1.0)
        return norm

    def _learning_rate(self) -> float:
        settings = self._config
        rate = learning_rate(
            settings.learning_rate,
            settings.learning_rate_end,
            settings.warmup_updates,
            settings.cosine_updates,
            self.updates,
            restarts=settings.cosine_restarts,
        )
        return self.rate_factor * rate

    def _follow(self) -> None:
        """Let the target network follow."""
        if self._config.target == "soft":
            soft_update([self._target_vector], [self._vector], self._config.target_tau)
        elif self.updates % self._config.target_every == 0:
            hard_update([self._target_vector], [self._vector])

    @torch.no_grad()
    def _show_statistics(self) -> None:
        """Both networks see by the newest mean and deviation."""
        assert self.statistics is not None
        mean = torch.from_numpy(self.statistics.mean.astype(np.float32))
        scale = torch.from_numpy(self.statistics.scale.astype(np.float32))
        for network in (self.network, self.target):
            network.obs_mean.copy_(mean)
            network.obs_scale.copy_(scale)


def _network(
    spec: GameSpec, learner: LearnerConfig, seed: int | None, frame_stack: int
) -> QNetwork:
    """A network with first weights from the seed, made on the cpu and so the same everywhere."""
    if seed is None:
        return QNetwork(spec, learner, frame_stack=frame_stack)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return QNetwork(spec, learner, frame_stack=frame_stack)


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum of what is there."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _in_bfloat16(network: QNetwork, vector: Tensor) -> tuple[QNetwork, Tensor]:
    """A copy of a network, its learnt parameters views of a bfloat16 copy of `vector`; and that
    copy. One cast in each step, where autocast makes one for each layer and pass."""
    copied, low = copy.deepcopy(network), vector.detach().to(torch.bfloat16)
    halves, wholes = _views(low, network), _views(vector.detach(), network)
    for parameter, half, whole in zip(copied.parameters(), halves, wholes, strict=True):
        parameter.data = half if parameter.requires_grad else whole
    return copied, low


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
            "resume with the settings that it was saved with (learner.hidden, learner.value and "
            "others), or start a new run"
        )
