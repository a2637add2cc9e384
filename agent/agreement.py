"""Agreement: how often the network would do itself what the expert recommends, by who acted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agent.batch import Batch, rows_of
from agent.networks import QNetwork
from agent.past import state_before
from protocol.actor import ACTORS, NAMES
from protocol.spaces import GameSpec

ROWS = 1024
"""Rows of a batch that are looked at, at most."""

TOLERANCE = 0.1
"""How far apart two numbers may be that agree, as a fraction of their column's range."""


@torch.no_grad()
def agreement(network: QNetwork, spec: GameSpec, batch: Batch) -> dict[str, float]:
    """`agreement_<actor>` for each actor: over its rows that have a recommendation, the share of
    the action's columns in which the network's greedy action is the one recommended. NaN without
    such rows. Waits for the device, once."""
    recommended, actors = batch.recommended[:ROWS], batch.actors[:ROWS]
    known = recommended[:, 0].isnan().logical_not()
    rows = slice(ROWS)
    state = state_before(network, batch.past, rows)
    x = network.encode(*rows_of(batch.states, rows), state=state)
    away = (network.choose(x, batch.legal_in(rows)) - recommended).abs()
    agrees = (away <= _tolerances(spec).to(away.device)).double().mean(1)
    of = torch.stack([known & (actors == actor) for actor in ACTORS], 1).double()
    sums = torch.stack([of.sum(0), (agrees[:, None] * of).sum(0)]).tolist()
    return {
        f"agreement_{NAMES[actor]}": agreed / count if count else math.nan
        for actor, count, agreed in zip(ACTORS, *sums, strict=True)
    }


def _tolerances(spec: GameSpec) -> Tensor:
    """How far apart the columns of two actions may be that agree, [action width]."""
    found = torch.from_numpy(TOLERANCE * (spec.high - spec.low))
    found[list(spec.discrete_columns)] = 0.0
    return found
