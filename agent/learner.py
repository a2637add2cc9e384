"""The learner: one optimizer step on a batch, each actor's rows told apart throughout.

What is minimized is in agent.objective; here the networks, their parameter vectors, the gradient,
the optimizer and the target network come together. Nothing in `step` waits for the device.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agent.adam import Adam
from agent.agreement import agreement
from agent.batch import Batch, joined
from agent.checkpoint import CheckpointError
from agent.collective import ALONE, Collective
from agent.device import Download, round_products, uploaded
from agent.diagnostics import IN_UNITS_OF_VALUES, Diagnostics
from agent.gradients import ActorGradients, not_finite, shortening
from agent.heads import HeadNumbers, head_numbers
from agent.looks import normalized_rows
from agent.network_settings import mismatch, network_settings, settings_of
from agent.network_state import copies_of, first_network, shapes_of
from agent.normalizer import RunningStatistics
from agent.objective import Objective
from agent.parameters import Bfloat16Copy, flatten_parameters
from agent.row_losses import ForwardPass, Wanted
from agent.schedules import learning_rate
from agent.targets import hard_update, soft_update
from agent.union import Union
from agent.value_scale import EVERY, ValueScale
from config.models import AdvantageConfig, ImitationConfig, LearnerConfig
from protocol.actor import ACTORS
from protocol.spaces import GameSpec

CPU_ROWS = 1024
"""Rows that pass through the network at a time on the cpu, each with its state and its next state,
so that a layer's activations (2 MB at 256 units) are still in the cache when the next layer and the
backward pass read them. Gradients add up over the parts: the step is the same."""


class UpdateKind(NamedTuple):
    """What an update does beside learning, as its number has it."""

    initializes_scale: bool
    """The first scale of values comes from its batch."""
    updates_scale: bool
    """The scale of values is looked at."""
    by_actor: bool
    """Each actor's part of the gradient is measured."""
    copies: bool
    """The target network becomes the online one."""


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
        collective: Collective = ALONE,
    ) -> None:
        """`seed` fixes the first weights, the same on every device. None: torch's generator.
        `frame_stack`: frames in an observation of a batch (`replay.frame_stack`). `collective`: of
        learners that make one step together, each from rows of its own (agent.union): all must be
        made, told and asked alike. ValueError where these settings are for one alone."""
        union = self._union = Union(collective)
        self.network = first_network(spec, learner, seed, frame_stack).to(device)
        """The online network. Its parameters are views of one vector: never move or replace it."""
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.updates = 0
        """Optimizer steps made."""
        self.statistics: RunningStatistics | None = None
        """Of the observations, where they are normalized."""
        if self.network.normalizes:
            self.statistics = self._shown = RunningStatistics(len(self.network.obs_mean))
        self._vector = flatten_parameters(self.network)
        self._target_vector = flatten_parameters(self.target)
        if not union.alone:
            if self.network.follows_gradient:
                raise ValueError(
                    "learner.continuous: expected regression or bins where several learners make "
                    "a step together, got gradient, whose loss is scaled by each learner's own rows"
                )
            union.begin(self._vector)
            self._target_vector.copy_(self._vector)
        self._gradients = ActorGradients(self.network, self._vector)
        device = self._vector.device
        rate, eps = learner.learning_rate, learner.adam_eps
        self._optimizer = Adam(self._vector, lr=rate, eps=eps, ahead=EVERY)
        self.configured = 0
        """How often it was given settings or a state: what was known of its steps has changed."""
        self.untaught = True
        """The network's first guesses are worth nothing: it has learnt nothing, nowhere."""
        self.rate_factor = 1.0
        """What the configured learning rate is multiplied by: lower after going back from numbers
        that went bad (agent.rollback)."""
        self._last: Batch | None = None
        self._rows_at_a_time = None if device.type == "cuda" else CPU_ROWS
        self._spec = spec
        self._settings = network_settings(learner, self.network.hidden, frame_stack)
        self._actors = torch.tensor(ACTORS, device=device)
        self._diagnostics = Diagnostics(device)
        self._value_scale: ValueScale | None = None
        if learner.normalize_values and learner.value != "c51":
            self._value_scale = ValueScale(self.network, self.target, union)
        self._config, self._advantage, self._imitation = learner, advantage, imitation
        self.configure(learner, advantage, imitation)

    def configure(
        self, learner: LearnerConfig, advantage: AdvantageConfig, imitation: ImitationConfig
    ) -> None:
        """From the next step on these settings hold; the same ones again change nothing, and
        captured updates stay. What shapes the network (hidden, value, atoms, continuous, bins,
        trunk, memory, normalize_observations) must be what it was made with."""
        if self.configured and (learner, advantage, imitation) == (
            self._config, self._advantage, self._imitation,
        ):  # fmt: skip
            return
        self._config, self._advantage, self._imitation = learner, advantage, imitation
        self.configured += 1
        round_products(self._vector.device, to_tf32=learner.precision == "tf32")
        # What batches pass through: the networks themselves, or copies of half their precision.
        online, target = self.network, self.target
        self._bfloat16_copies: list[Bfloat16Copy] = []
        if learner.precision == "bfloat16":
            copies = (
                Bfloat16Copy(self.network, self._vector),
                Bfloat16Copy(self.network, self._target_vector),
            )
            online, target = (each.network for each in copies)
            self._bfloat16_copies.extend(copies)
        scale = self.network.value_scale
        self._objective = Objective(
            online, target, learner, advantage, imitation, self._spec, scale, self._union
        )

    def observe(self, obs: npt.NDArray[Any]) -> None:
        """Count rows of observations [n, observation_size] in, where they are normalized."""
        if self.statistics is not None:
            self.statistics.update(normalized_rows(self.network.looks, self._spec.parts(obs)))
            if self._union.alone:
                self._show_statistics()

    def wanted(self, batch: Batch, batch_size: int, cloning: float | Tensor) -> Wanted:
        """What is wanted of the rows of a batch, or of several of `batch_size` in one, for `step`:
        it depends on no parameter. `cloning`: the weight of cloning (agent.evidence), as a tensor
        [] above 0."""
        return self._objective.wanted(batch, batch_size, cloning)

    def step(
        self, batch: Batch, cloning: float | None = None, wanted: Wanted | None = None
    ) -> Tensor:
        """Learn from a batch, which must be on this learner's device: one optimizer step. Errors:
        RanksDiffer where several learners make it and are not the same.

        `wanted`: of `wanted`, where it is known already; else `cloning`: the weight of cloning,
        None for that of a run's begin. Returns |TD error| of each row, the mean over branches,
        float32 [B].
        """
        if self.statistics is not None and not self._union.alone:
            self._show_statistics()
        if wanted is None:
            cloning = self._imitation.expert.start if cloning is None else cloning
            wanted = self.wanted(batch, len(batch), cloning)
        self.set_rates(1)
        td_errors = self.learn(batch, wanted, self.kind())
        self.made((batch,))
        self._union.check(self._vector, self.updates)
        return td_errors

    def kind(self, ahead: int = 0) -> UpdateKind:
        """Of the next update, or of one so many further ahead."""
        number, settings = self.updates + ahead, self._config
        scaled = self._value_scale is not None
        return UpdateKind(
            initializes_scale=scaled and self.untaught and not ahead,
            updates_scale=scaled and (number < EVERY or not number % EVERY),
            by_actor=not number % settings.grad_norm_every,
            copies=settings.target == "hard" and not (number + 1) % settings.target_every,
        )

    def set_rates(self, updates: int) -> None:
        """Say the learning rates of so many of the next updates, at most EVERY."""
        for ahead in range(updates):
            self._optimizer.set_rate(self._learning_rate(ahead), ahead)

    def made(self, batches: Sequence[Batch]) -> None:
        """Updates were made from these: what the host counts."""
        self.untaught = False
        for batch in batches:
            self.updates += 1
            self._diagnostics.count(self.updates, batch.actors)
            if len(batch):
                self._last = batch

    def add_up(self) -> None:
        """Put what is kept of updates into the sums that metrics are made of."""
        self._diagnostics.add_up()

    def forget_kept(self) -> None:
        """`learn` was called and then nothing was made: leave out of metrics what it kept since
        `add_up`. On a GPU that was never computed."""
        self._diagnostics.forget_kept()

    def learn(self, batch: Batch, wanted: Wanted, kind: UpdateKind, ahead: int = 0) -> Tensor:
        """An optimizer step, and nothing but what is asked of the device, which all follows from
        the arguments and `configured`; the host counts it with `made`. `ahead`: of `set_rates`.
        Returns as `step`."""
        self._refresh_copies()
        objective, size = self._objective, self._rows_at_a_time or max(len(batch), 1)
        parts = batch.split(size)
        if self._value_scale is not None and kind.initializes_scale:
            self._value_scale.begin(batch.returns)
        # The same pass is looked at and learnt from, so that looking costs no other.
        passes: list[ForwardPass] = []
        if kind.updates_scale or objective.compares_by_critic:
            passes = [objective.forward(part) for part in parts]
        if self._value_scale is not None and kind.updates_scale:
            targets = self.network.values.mean(joined([each.target for each in passes]))
            factor = self._value_scale.look(targets, batch.returns)
            self._refresh_copies()
            passes = [
                objective.rescaled(each, factor) or objective.forward(part)
                for each, part in zip(passes, parts, strict=True)
            ]
        weights = objective.weights(batch, parts, passes)
        coefficients = objective.coefficients(wanted.plain, weights).split(size)
        masks = None
        if kind.by_actor:
            masks = (batch.actors[:, None] == self._actors).to(torch.float32)

        found: list[Tensor] = []
        for i, (part, of_part) in enumerate(zip(parts, wanted.split(size), strict=True)):
            forward = passes[i] if passes else objective.forward(part)
            losses = objective.losses(part, forward, of_part, coefficients[i])
            self._gradients.backward(
                partial(objective.backward, forward, losses),
                None if masks is None else masks[i * size : (i + 1) * size],
                first=not found,
            )
            found.append(losses.measured)

        self._gradients.of_union(self._union, by_actor=masks is not None)
        if masks is not None:
            self._diagnostics.actor_norms(masks, self._gradients.add_up())
        norm = self._gradients.norm()
        measured = joined(found)
        # One bad batch must not destroy the network: the step is empty, and counted. The optimizer
        # leaves all as it was then, its own state too, and nobody has to wait to know.
        skip = not_finite(norm + self._union.total(measured.sum()))
        measured[:, IN_UNITS_OF_VALUES].mul_(self.network.value_scale)
        too_long = shortening(norm, self._config.grad_clip_norm)
        self._optimizer.step(self._gradients.total, too_long, skip, ahead)
        if self._config.target == "soft":
            soft_update([self._target_vector], [self._vector], self._config.target_tau)
        elif kind.copies:
            hard_update([self._target_vector], [self._vector])
        self._diagnostics.update(batch.actors, batch.rewards, weights, measured, norm, skip)
        return measured[:, 0]

    def metrics(self) -> dict[str, float]:
        """`agent.diagnostics.METRICS`, means since the last call. Waits for the device, once."""
        return self._diagnostics.fetch() | {"learning_rate": self._learning_rate()}

    def agreement(self) -> dict[str, float]:
        """How the network agrees with the expert on the batch learnt from last (agent.agreement).
        Waits for the device, once. Empty without an update."""
        return {} if self._last is None else agreement(self.network, self._spec, self._last)

    def skipped_in_a_row(self) -> float:
        """The most skipped updates in a row since `metrics` was called. Waits for the device."""
        return self._diagnostics.skipped_in_a_row()

    def heads(self) -> list[HeadNumbers]:
        """What each head did on the batch learnt from last (agent.heads). Waits for the device,
        once. Empty without an update."""
        if self._last is None:
            return []
        gradients = self._gradients.by_name()
        return head_numbers(self.network, self._spec, self._last, gradients)

    def batch_lines(self) -> list[str]:
        """The log lines due since the last call, one for every 100th batch."""
        return self._diagnostics.batch_lines()

    def policy_vector(self) -> Tensor:
        """All parameters of the network, float32 [n] on the cpu, a copy, in the order of
        `torch.nn.utils.parameters_to_vector`."""
        return self.policy_on_its_way().wait()

    def policy_on_its_way(self) -> Download:
        """The same, which need not be there yet: no update waits for it."""
        return Download(self._vector)

    def state_dict(self) -> dict[str, Any]:
        """Copies on the cpu of all that a step depends on: keep or save them while learning."""
        out = {
            "network": copies_of(self.network.state_dict()),
            "target": copies_of(self.target.state_dict()),
            "adam": copies_of(self._optimizer.state_dict()),
            "settings": dict(self._settings),
            "updates": self.updates,
            "untaught": self.untaught,
            "rate_factor": self.rate_factor,
        }
        if self.statistics is not None:
            out["observations"] = self._shown.get_state()
        if self._value_scale is not None:
            out["value_scale"] = self._value_scale.state_dict()
        return out

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`. Settings (learning rate and the like) stay this learner's.

        Errors: CheckpointError where the state is that of a network of another shape; KeyError,
        TypeError, ValueError where it is none.
        """
        saved: dict[str, list[int]] = {"value_scale": []} | shapes_of(
            state["network"]
        )  # older ones have none
        if shapes_of(self.network.state_dict()) != saved:
            raise CheckpointError(mismatch(settings_of(state), self._settings))
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        self._optimizer.load_state_dict(state["adam"])
        self.configured += 1
        self.updates = state["updates"]
        self.untaught = state.get("untaught", not self.updates)
        self.rate_factor = state.get("rate_factor", 1.0)  # older checkpoints have none
        self._diagnostics.begin_anew()
        if self.statistics is not None:
            self._set_statistics(state["observations"])
        if self._value_scale is not None and "value_scale" in state:
            self._value_scale.load_state_dict(state["value_scale"])

    def _refresh_copies(self) -> None:
        """The copies of half the precision become what the networks are now."""
        for each in self._bfloat16_copies:
            each.refresh()

    def set_statistics(self, state: dict[str, Any]) -> None:
        """Go on from statistics of the observations (agent.normalizer). It must have some."""
        self._set_statistics(state)
        if self._union.alone:
            self._show_statistics()

    def _set_statistics(self, state: dict[str, Any]) -> None:
        """Of all ranks: the first one has them, and the others have seen nothing beside."""
        self.statistics = self._shown = RunningStatistics(len(self.network.obs_mean))
        self._shown.set_state(state)
        if self._union.rank:
            self.statistics = RunningStatistics(len(self.network.obs_mean))
        elif not self._union.alone:
            self.statistics = copy.deepcopy(self._shown)

    def _learning_rate(self, ahead: int = 0) -> float:
        settings = self._config
        rate = learning_rate(
            settings.learning_rate,
            settings.learning_rate_end,
            settings.warmup_updates,
            settings.cosine_updates,
            self.updates + ahead,
            restarts=settings.cosine_restarts,
        )
        return self.rate_factor * rate

    @torch.no_grad()
    def _show_statistics(self) -> None:
        """Both networks see by the newest mean and deviation, those of all ranks."""
        assert self.statistics is not None
        shown = self._shown = self._union.merged(self.statistics)
        mean = uploaded(shown.mean.astype(np.float32), self._vector.device)
        scale = uploaded(shown.scale.astype(np.float32), self._vector.device)
        for network in (self.network, self.target):
            network.obs_mean.copy_(mean)
            network.obs_scale.copy_(scale)
