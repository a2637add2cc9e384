"""agent/agreement.py: how often the network agrees with the expert, by who acted."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from agent.agreement import TOLERANCE, agreement
from agent.batch import Batch
from protocol.actor import Actor
from protocol.spaces import Continuous, Discrete
from tests.support.learner import batch_of, learner_of, spec_of

SPEC = spec_of((Continuous("aim", -2.0, 2.0, 1), Discrete("fire", 4)))
LEARNER = learner_of(SPEC)


def batch(agreed: list[float], actors: list[int]) -> Batch:
    """Rows in which so large a share of the action is what the network would do; NaN: rows without
    a recommendation."""
    made = batch_of(SPEC, len(agreed))
    recommended = LEARNER.network.greedy(made.states[0]).clone()
    for row, share in zip(recommended, agreed, strict=True):
        if math.isnan(share):
            row[:] = math.nan
        if share < 1.0:
            row[0] += 4.0 * TOLERANCE * 1.01  # of the range
        if share < 0.5:
            row[1] = (row[1] + 1) % 4
        else:
            row[0] += 4.0 * TOLERANCE * 0.5 * (share == 1.0)
    return replace(made, recommended=recommended, actors=torch.tensor(actors))


def test_agreement_is_the_share_of_columns_for_each_actor() -> None:
    made = batch([1.0, 0.5, math.nan, 0.0, 1.0], [Actor.DQN] * 3 + [Actor.EXPERT] * 2)
    found = agreement(LEARNER.network, SPEC, made)
    assert found == {
        "agreement_dqn": pytest.approx(0.75),
        "agreement_expert": pytest.approx(0.5),
    }


def test_agreement_without_recommendations_is_not_a_number() -> None:
    found = agreement(LEARNER.network, SPEC, batch([math.nan, 1.0], [Actor.DQN, Actor.EXPERT]))
    assert math.isnan(found["agreement_dqn"])
    assert found["agreement_expert"] == 1.0


def test_learner_without_an_update_has_no_agreement() -> None:
    assert LEARNER.agreement() == {}
