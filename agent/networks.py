"""The network: a trunk, dueling values for the discrete heads, bounded continuous heads.

    picture ─▶ scale ─▶ convolutions ─┐
    numbers ─▶ scale or normalize ────┼─▶ Linear ReLU … ─▶ one Linear ─▶ value       K
    choices ─▶ one-hot or embedding ──┘                              ├─▶ advantages  K a choice
                                                                     └─▶ tanh ─▶ continuous

Each observation of the game passes through what suits it (agent.looks); then they stand side by
side.

K numbers stand for a value as `agent.values` says; with K = 1 they are Q itself. All heads are
columns of one Linear: one matrix product instead of three. Weights may be bfloat16: what passes
through is cast to them, and what comes out is float32.

With `learner.continuous = "gradient"` the values depend on the continuous action too, and a policy
with a trunk of its own chooses it:

    scaled ─▶ Linear ReLU … ─▶ Linear ─▶ tanh ─▶ action, which joins what the trunk says:
    trunk, action ─▶ Linear ReLU ─▶ one Linear ─▶ value, advantages

With "bins" each continuous column is one more discrete branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agent.choices import Choices
from agent.convolutions import Convolutions
from agent.dense import Dense
from agent.dueling import Dueling
from agent.legal import masked
from agent.looks import Look, hidden_layers, looks
from agent.recurrent import RecurrentMemory
from agent.targets import best_choices
from agent.values import value_head
from config.models import LearnerConfig
from protocol.spaces import GameSpec

Floats = npt.NDArray[np.float32]
Layers = Sequence[tuple[Tensor, Tensor]]

INFINITY = np.float32(np.inf)
TINY = np.finfo(np.float32).tiny

NORMALIZED_MAX = 10.0
"""Normalized observations are clipped to this: one wild value must not drown the rest."""


class Outputs(NamedTuple):
    """What the network says of B observations; float32."""

    q: Tensor
    """Q of each choice, [B, choices of all branches side by side]."""
    value: Tensor
    """Of the state, [B]: what the Q of each branch has in common."""
    continuous: Tensor
    """The action of the continuous heads, [B, columns of all of them], within [low, high]."""


class QNetwork(nn.Module):
    """Dueling Q-values (Wang et al. 2016, arXiv:1511.06581) over a trunk shared by all branches.

    A *branch* is a set of choices with a Q each: a discrete head, or a continuous column in bins.

    Linear layers keep PyTorch's default initialization: it is the one under which the usual DQN
    settings (learning rate, target updates) were found, and its small outputs start the continuous
    heads in the middle of their range, where tanh has a gradient.
    """

    middle: Tensor
    """The middle of the range of each continuous column, [C]."""
    value_scale: Tensor
    """What values are multiplied by to be in units of the game, [] (agent.value_scale)."""
    _half_range: Tensor
    _per_half_range: Tensor
    offsets: Tensor
    """Where each branch begins among the columns of `q`, int64 [branches]."""
    _order: Tensor

    def __init__(self, spec: GameSpec, learner: LearnerConfig, *, frame_stack: int = 1) -> None:
        super().__init__()
        columns = len(spec.continuous_columns)
        self.bins = learner.bins if learner.continuous == "bins" and columns else 0
        """Choices of each continuous column; 0 where they are not in bins."""
        self.follows_gradient = learner.continuous == "gradient" and columns > 0
        """Values depend on the continuous action, which a policy of its own chooses."""
        self.sizes = tuple(h.n for h in spec.discrete) + (self.bins,) * columns * bool(self.bins)
        """Choices of each branch."""
        self.values = value_head(learner)
        self._heads = len(spec.discrete)
        self._choices = sum(self.sizes)
        self._direct = 0 if self.bins else columns
        self.frame_stack = frame_stack
        """Frames that are seen together (agent.looks says of which observations)."""
        # Discrete heads come first here; the action row has the order of the game.
        order = [*spec.discrete_columns, *spec.continuous_columns]
        self._reorder = order != sorted(order)
        self._constants(spec, order)
        self.register_buffer("value_scale", torch.ones(()))
        self.value_outputs = self.values.atoms * (1 + self._choices)
        """Outputs of the last layer that stand for values: its first."""

        self.looks = looks(spec, learner, frame_stack)
        """How each of the game's observations is looked at."""
        normalized = sum(look.observation.size for look in self.looks if look.normalized)
        self.normalizes = normalized > 0
        """Some observations are shown less their mean, over their deviation."""
        if self.normalizes:
            # Parameters without a gradient: they are published, saved and copied with the rest.
            self.obs_mean = nn.Parameter(torch.zeros(normalized), requires_grad=False)
            self.obs_scale = nn.Parameter(torch.ones(normalized), requires_grad=False)
        self.encoders: list[Convolutions | Choices | None] = []
        """What each observation passes through; None: it is numbers."""
        inputs = 0
        for number, look in enumerate(self.looks):
            encoder = _encoder(look)
            self.encoders.append(encoder)
            if encoder is not None:
                self.add_module(encoder_name(self.looks, number), encoder)
            inputs += look.elements if encoder is None else encoder.size

        self.memory: RecurrentMemory | None = None
        """What remembers the frames before; None where nothing does."""
        if learner.state_size:
            self.memory = RecurrentMemory(inputs, learner.state_size)
            inputs += learner.state_size
        hidden = self.hidden = hidden_layers(learner, inputs)
        """Widths of the trunk's layers."""
        last = hidden[-1]
        atoms = self.values.atoms
        self.trunk = _stack((inputs, *hidden))
        if self.follows_gradient:
            self.policy = _stack((inputs, *hidden, columns))
            self.joint = nn.Linear(last + columns, last)
        beside = 0 if self.follows_gradient else self._direct
        self.heads = nn.Linear(last, atoms * (1 + self._choices) + beside)
        self.value_params = Dueling(self.sizes, atoms, beside)
        """K numbers for each choice of what `head_outputs` makes (agent.dueling)."""
        # For small batches, calling a module and looking up its parameters takes as long as its
        # product; a gateway has nothing but small batches.
        self._trunk = _pairs(self.trunk)
        self._last = (self.heads.weight, self.heads.bias)
        if self.follows_gradient:
            self._policy = _pairs(self.policy)
            self._joint = (self.joint.weight, self.joint.bias)

    def _constants(self, spec: GameSpec, order: list[int]) -> None:
        """Tensors that follow the module to its device but are neither saved nor published."""
        sizes = torch.tensor(self.sizes, dtype=torch.int64)
        half, middle = _bounds(spec)
        for name, constant in {
            "middle": torch.from_numpy(middle),
            "_half_range": torch.from_numpy(half),
            # Of a range too narrow for float32 to halve or to divide by: 1 / inf, not inf.
            "_per_half_range": torch.from_numpy(1 / np.where(half >= TINY, half, INFINITY)),
            "offsets": sizes.cumsum(0) - sizes,
            "_order": torch.tensor(order).argsort(),
        }.items():
            self.register_buffer(name, constant, persistent=False)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Older states have no scale of values: theirs are in units of the game."""
        state_dict.setdefault(f"{prefix}value_scale", torch.ones(()))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, *parts: Tensor) -> Outputs:
        """What to think of B states: for each of the game's observations a tensor [B, *shape] (or
        flat), and where frames of it are stacked [B, k, *shape], in the dtype that it has. A
        network with a memory remembers nothing here."""
        return self.outputs(self.encode(*parts))

    def outputs(self, x: Tensor) -> Outputs:
        """The same of what `encode` has made."""
        squashed = self.act(x) if self.follows_gradient else None
        head_outputs = self.head_outputs(x, squashed)
        q = self.values.q(self.value_params(head_outputs)) * self.value_scale
        value = self.values.q(self.value_params.of_state(head_outputs))[:, 0] * self.value_scale
        if self.bins:
            squashed = self._centers(best_choices(q, self.sizes)[:, self._heads :])
        elif squashed is None:
            squashed = self.squashed(head_outputs)
        return Outputs(q[:, : self._choices], value, self._scaled(squashed))

    def greedy(self, *parts: Tensor, legal: Tensor | None = None) -> Tensor:
        """The best action in each state: action rows, float32 [B, action_width]. `legal`: which
        choices are (agent.legal)."""
        with torch.inference_mode():
            return self.choose(self.encode(*parts), legal)

    @torch.inference_mode()
    def choose(self, x: Tensor, legal: Tensor | None = None) -> Tensor:
        """The same of what `encode` has made."""
        squashed = self.act(x) if self.follows_gradient else None
        head_outputs = self.head_outputs(x, squashed)
        pieces: list[Tensor] = []
        if self.sizes:
            choices = best_choices(masked(self.preferences(head_outputs), legal), self.sizes)
            pieces.append(choices[:, : self._heads].to(torch.float32))
            if self.bins:
                squashed = self._centers(choices[:, self._heads :])
        if squashed is None and self._direct:
            squashed = self.squashed(head_outputs)
        if squashed is not None:
            pieces.append(self._scaled(squashed))
        rows = torch.cat(pieces, dim=1) if len(pieces) > 1 else pieces[0]
        return rows.index_select(1, self._order) if self._reorder else rows

    def encode(self, *parts: Tensor, state: Tensor | None = None) -> Tensor:
        """Observations as the trunk takes them, float32 [B, inputs]. Of a network with a memory the
        new state stands behind them: what `state` [B, size] (None: zeros) becomes by seeing them.
        """
        x = self.see(*parts)
        if self.memory is None:
            return x
        if state is None:
            state = x.new_zeros(x.shape[0], self.memory.size)
        return torch.cat((x, self.memory(x, state)), dim=1)

    def state_of(self, x: Tensor) -> Tensor:
        """The recurrent state in what `encode` has made, [B, size], a view."""
        assert self.memory is not None
        return x[:, -self.memory.size :]

    def see(self, *parts: Tensor) -> Tensor:
        """Observations as a memory takes them, and, without one, the trunk, float32 [B, n]."""
        found, column = [], 0
        for look, encoder, part in zip(self.looks, self.encoders, parts, strict=True):
            if encoder is not None:
                found.append(encoder(part))
                continue
            x = look.scaled(part.flatten(1))
            if look.normalized:
                columns = slice(column, column + look.observation.size)
                column = columns.stop
                size = look.observation.size
                frames = x.view(x.shape[0], x.shape[1] // size, size)
                x = ((frames - self.obs_mean[columns]) * self.obs_scale[columns]).flatten(1)
                x = x.clamp(-NORMALIZED_MAX, NORMALIZED_MAX)
            found.append(x)
        return torch.cat(found, dim=1) if len(found) > 1 else found[0]

    def head_outputs(
        self, x: Tensor, squashed: Tensor | None = None, *, frozen: bool = False
    ) -> Tensor:
        """The last layer on encoded observations: value, advantages, and, where they do not follow
        the gradient, continuous heads before tanh, side by side; float32.

        `squashed` [B, C]: the continuous action in units of half its range, where values depend on
        it. `frozen`: a gradient flows to `squashed` alone.
        """
        x = x.to(self._last[0].dtype)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            for weight, bias in self._trunk:
                x = F.linear(x, weight, bias).relu_()
        last: Layers = (self._last,)
        if squashed is not None:
            x = torch.cat((x, squashed.to(x.dtype)), dim=1)
            last = (self._joint, self._last)
        if frozen:
            last = [(weight.detach(), bias.detach()) for weight, bias in last]
        for weight, bias in last[:-1]:
            x = F.linear(x, weight, bias).relu_()
        return F.linear(x, *last[-1]).float()

    def dense(self) -> Dense | None:
        """`head_outputs`, with its gradient written out; None of networks whose values depend on
        the continuous action. To be made once parameters lie where they stay."""
        return None if self.follows_gradient else Dense([*self._trunk, self._last])

    def learnt_in_front(self) -> list[Tensor]:
        """The parameters that learn in front of the trunk: those that `encode` goes through."""
        behind = [self.trunk, self.heads]
        if self.follows_gradient:
            behind += [self.policy, self.joint]
        others = {id(each) for module in behind for each in module.parameters()}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in others]

    def act(self, x: Tensor) -> Tensor:
        """The policy's continuous action on encoded observations, in units of half its range,
        [B, C]. The convolutions are the values' own: no gradient flows to them from here."""
        *inner, last = self._policy
        x = x.detach().to(last[0].dtype)
        for weight, bias in inner:
            x = F.linear(x, weight, bias).relu_()
        return F.linear(x, *last).float().tanh()

    def squashed(self, head_outputs: Tensor) -> Tensor:
        """The continuous heads that are regressed, in units of half their range, [B, C] within -1
        and 1; [B, 0] where there are none."""
        return head_outputs[:, self.values.atoms * (1 + self._choices) :].tanh()

    def to_squashed(self, continuous: Tensor) -> Tensor:
        """Continuous actions [B, C] in units of half their range."""
        return (continuous - self.middle) * self._per_half_range

    def columns(self, discrete: Tensor, continuous: Tensor) -> Tensor:
        """The columns of `q` of the actions taken, int64 [B, branches]: of choices [B, heads], and,
        in bins, of continuous actions [B, C], each counted for the nearest."""
        if self.bins:
            place = (self.to_squashed(continuous) + 1) * ((self.bins - 1) / 2)
            nearest = place.round_().clamp_(0, self.bins - 1).long()
            discrete = torch.cat((discrete, nearest), dim=1)
        return discrete + self.offsets

    def preferences(self, head_outputs: Tensor) -> Tensor:
        """Numbers that order the choices of each branch as Q does, [B, choices]."""
        if self.values.atoms == 1:
            # V and the mean are the same for all choices of a branch: advantages alone decide.
            return head_outputs[:, 1 : 1 + self._choices]
        return self.values.q(self.value_params(head_outputs))

    def _centers(self, choices: Tensor) -> Tensor:
        """The middle of bins, [B, C], in units of half the range: the outermost are its ends."""
        return choices * (2 / (self.bins - 1)) - 1

    def _scaled(self, squashed: Tensor) -> Tensor:
        return torch.addcmul(self.middle, self._half_range, squashed)


def encoder_name(looks: Sequence[Look], number: int) -> str:
    """The name that checkpoints have for what an observation passes through."""
    if len(looks) == 1 and looks[0].through == "convolutions":
        return "pictures"
    return f"observation_{number}"


def _encoder(look: Look) -> Convolutions | Choices | None:
    """What an observation passes through before it meets the others."""
    if look.through == "convolutions":
        return Convolutions(look)
    return Choices(look) if look.through == "choices" else None


def _stack(widths: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))


def _pairs(layers: nn.ModuleList) -> list[tuple[Tensor, Tensor]]:
    return [(layer.weight, layer.bias) for layer in layers]  # type: ignore[misc]


def _bounds(spec: GameSpec) -> tuple[Floats, Floats]:
    """Half the range and the middle of each continuous column, float32 [C] each.

    Rounded so that middle + half and middle - half, computed in float32, stay within the range: an
    action must never lie outside its head.
    """
    columns = list(spec.continuous_columns)
    low, high = spec.low[columns], spec.high[columns]
    middle = ((low.astype(np.float64) + high) / 2).astype(np.float32)
    half = np.minimum(high.astype(np.float64) - middle, middle - low.astype(np.float64))
    half = half.astype(np.float32)
    while (outside := (middle + half > high) | (middle - half < low)).any():
        half[outside] = np.nextafter(half[outside], np.float32(0))
    return half, middle
