"""Measurements of each head of a network on a batch of states, which agent.health judges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from agent.batch import Batch, rows_of
from agent.legal import masked
from agent.networks import QNetwork
from agent.past import state_before
from agent.targets import best_choices
from protocol.spaces import GameSpec

ROWS = 256
"""States that are looked at, at most."""

TINY = 1e-30
"""What keeps a division finite."""


class HeadNumbers(NamedTuple):
    """What a head (or a column of one that is cut into bins) did on a batch."""

    name: str
    share: float
    """The fraction of the states for which it would choose what it chooses most often; NaN for
    numbers, which are never twice the same."""
    spread: float
    """How far its output differs between states: the standard deviation over states, mean over its
    outputs, as a fraction of the largest output by magnitude."""
    gradient: float
    """The norm of the gradient of its part of the last layer."""


@torch.no_grad()
def head_numbers(
    network: QNetwork,
    spec: GameSpec,
    batch: Batch,
    gradients: Mapping[str, Tensor],
) -> list[HeadNumbers]:
    """Measure every head on a batch's states. `gradients`: of the network's parameters, by name.

    The output of a branch is that of the last layer, the advantages of its choices. Waits for the
    device, once. Empty where all states are the same: nothing can differ then.
    """
    rows = slice(ROWS)
    states = rows_of(batch.states, rows)
    x = network.encode(*states, state=state_before(network, batch.past, rows))
    squashed = network.act(x) if network.follows_gradient else None
    head_outputs = network.head_outputs(x, squashed)
    last = _layer(gradients, "heads")
    at = atoms = network.values.atoms  # behind the value of the state
    names: list[str] = []
    numbers: list[Tensor] = [torch.stack([(part != part[0]).any() for part in states]).any()]

    def add(name: str, share: Tensor | float, output: Tensor, gradient: Tensor) -> None:
        names.append(name)
        output = output.double()
        spread = output.std(0, correction=0).mean() / (output.abs().amax() + TINY)
        norm = torch.linalg.vector_norm(gradient)
        numbers.extend((torch.as_tensor(share, device=head_outputs.device), spread, norm))

    if network.sizes:
        q = network.values.q(network.value_params(head_outputs))
        choices = best_choices(masked(q, batch.legal_in(rows)), network.sizes)
        shares = (choices == choices.mode(0).values).double().mean(0)
        branches = [head.name for head in spec.discrete]
        if network.bins:
            branches += _columns(spec)
        for name, share, n in zip(branches, shares, network.sizes, strict=True):
            outputs = slice(at, at + atoms * n)
            add(name, share, head_outputs[:, outputs], last[outputs])
            at = outputs.stop
    if spec.continuous and not network.bins:
        gradient = last[at:]
        if squashed is None:
            squashed = network.squashed(head_outputs)
        else:
            gradient = _layer(gradients, f"policy.{len(network.policy) - 1}")
        at = 0
        for head in spec.continuous:
            columns = slice(at, at + head.size)
            add(head.name, math.nan, squashed[:, columns], gradient[columns])
            at = columns.stop
    differ, *rest = torch.stack([number.double() for number in numbers]).tolist()
    if not differ:
        return []
    return [HeadNumbers(name, *rest[3 * i : 3 * i + 3]) for i, name in enumerate(names)]


def _layer(gradients: Mapping[str, Tensor], name: str) -> Tensor:
    """The gradient of a linear layer, a row for each output, weights and bias side by side."""
    return torch.cat((gradients[f"{name}.weight"], gradients[f"{name}.bias"][:, None]), dim=1)


def _columns(spec: GameSpec) -> list[str]:
    """A name for each continuous column: the head's, with its place where there are several."""
    return [
        head.name if head.size == 1 else f"{head.name}[{i}]"
        for head in spec.continuous
        for i in range(head.size)
    ]
