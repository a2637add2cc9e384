"""agent/cloning.py: which rows of a batch show an action, and which."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from agent.batch import Batch
from agent.cloning import Cloning
from protocol.actor import Actor
from protocol.spaces import Continuous, Discrete
from tests.support.learner import batch_of, learner_of, spec_of

CPU = torch.device("cpu")
NAN = float("nan")
SPEC = spec_of((Continuous("aim", -1.0, 1.0, 2), Discrete("fire", 4)))
"""The discrete head last, so that columns are told apart."""

RECOMMENDED = [[0.5, -0.5, 3.0], [NAN, NAN, NAN], [0.25, 1.0, 0.0], [NAN, NAN, NAN]]
ACTORS = [Actor.DQN, Actor.DQN, Actor.EXPERT, Actor.EXPERT]


def batch() -> Batch:
    return replace(
        batch_of(SPEC, 4),
        actors=torch.tensor(ACTORS),
        discrete=torch.tensor([[1], [1], [1], [1]]),
        continuous=torch.zeros(4, 2),
        recommended=torch.tensor(RECOMMENDED),
    )


def test_rows_of_the_expert_show_the_action_taken() -> None:
    found = Cloning(SPEC, "expert", CPU).actions(batch())
    assert found.weight.tolist() == [0, 0, 1, 1]
    assert found.discrete.tolist() == [[1]] * 4
    assert found.continuous.tolist() == [[0, 0]] * 4


def test_rows_of_the_network_show_recommendations_and_the_expert_s_what_it_did() -> None:
    """On the third row somebody took over from a script, and did something else."""
    found = Cloning(SPEC, "recommended", CPU).actions(batch())
    assert found.weight.tolist() == [1, 0, 1, 1]
    assert found.discrete.tolist() == [[3], [1], [1], [1]]
    assert found.continuous.tolist() == [[0.5, -0.5], [0, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize(("rows", "follows"), [("recommended", True), ("expert", False)])
def test_network_learns_what_is_recommended_to_it(*, rows: str, follows: bool) -> None:
    """The student alone plays, at random, and nothing earns anything: recommendations are all that
    there is to learn."""
    spec = spec_of((Discrete("fire", 4), Continuous("aim", -1.0, 1.0, 1)))
    learner = learner_of(
        spec, imitation={"rows": rows, "expert": {"start": 1.0, "end": 1.0, "frames": 1}}
    )

    def advice(states: Tensor) -> Tensor:
        return (states[:, 0] > 0).float() * 2

    for seed in range(150):
        made = batch_of(spec, 64, seed)
        choice = advice(made.states[0])
        nothing = torch.zeros(64)
        learner.step(
            replace(
                made,
                actors=torch.full((64,), int(Actor.DQN)),
                rewards=nothing,
                returns=nothing,
                discounts=nothing,
                recommended=torch.stack([choice, choice / 4], 1),
            )
        )
    states = batch_of(spec, 500, 1000).states[0]
    with torch.no_grad():
        out = learner.network(states)
    share = (out.q.argmax(1) == advice(states)).float().mean()
    off = (out.continuous[:, 0] - advice(states) / 4).abs().mean()
    learnt = float(share) > 0.9 and float(off) < 0.15
    assert learnt is follows, (float(share), float(off))
