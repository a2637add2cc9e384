"""Numbers that go bad, judged. tests/integration/test_rollback.py breaks a trainer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from agent.heads import HeadNumbers
from agent.health import GROWTHS, HeadWatch, ValueWatch, not_finite, value_bound
from agent.learner import Learner
from config.models import ImitationConfig, LearnerConfig
from protocol.spaces import Continuous, Discrete
from tests.support.learner import batch_of, learner_of, spec_of

NAN, INF = math.nan, math.inf


# What is not finite.


def test_not_finite_returns_names_of_nan_and_inf_tensors() -> None:
    bad = torch.tensor([0.0, NAN])
    state = {
        "learner": {"network": {"a": torch.ones(2), "b": bad}, "updates": 3},
        "rest": [torch.ones(1), (torch.tensor(INF), torch.arange(3), "text", None)],
        "whole": torch.tensor([2**62]),
    }
    assert not_finite(state) == ["learner.network.b", "rest[1][0]"]
    assert not_finite({"fine": torch.ones(3), "half": torch.ones(2, dtype=torch.bfloat16)}) == []


# Values.


def _bound(reward_max: float, scale: float = 1.0, **learner: Any) -> float:
    return value_bound(reward_max, scale, LearnerConfig(**learner), ImitationConfig(margin=0.5))


def test_value_bound_equals_discounted_maximum_reward() -> None:
    assert _bound(2, gamma=0.9, huber_delta=1) == pytest.approx(20 + 0.5 + 1)
    assert _bound(2, 3.0, gamma=0.9, huber_delta=1) == pytest.approx(20 + 3 * (0.5 + 1))
    # n-step targets from values at the bound stay within it, whatever n is.
    for n in (1, 3, 10):
        rewards = sum(2 * 0.9**k for k in range(n))
        assert rewards + 0.9**n * 20 == pytest.approx(20)
    assert _bound(2, gamma=0, huber_delta=1) == pytest.approx(2 + 0.5 + 1)
    assert math.isnan(_bound(2, gamma=1))


def test_value_watch_above_bound_long_enough_is_found_while_it_lasts() -> None:
    watch = ValueWatch(lasting=100, growth_every=10**9)
    assert watch.look(0, 11, 10) == []
    assert watch.look(99, 11, 10) == []
    assert watch.look(100, 9, 10) == [], "they were within in between"
    assert watch.look(150, 11, 10) == []
    assert watch.look(249, 11, 10) == []
    assert not watch.drifting
    (found,) = watch.look(250, 12, 10)
    assert "Q is up to 12, but the rewards so far can add up to 10 at most" in found.text
    assert "lower learner.learning_rate" in found.cure
    assert watch.drifting
    assert [each.id for each in watch.look(400, 12, 10)] == [found.id], "it lasts"
    assert len(watch.look(401, NAN, 10)) == 1, "no update says that it has ended"
    assert watch.drifting
    assert watch.look(402, 9, 10) == []
    assert not watch.drifting
    watch.look(500, 12, 10)
    assert len(watch.look(600, 12, 10)) == 1, "and again when it happens again"


def test_value_watch_nan_bound_never_warns() -> None:
    watch = ValueWatch(lasting=1, growth_every=10**9)
    assert [watch.look(i, 1e9, NAN) for i in range(10)] == [[]] * 10


def test_value_watch_exponential_growth_is_found_while_it_lasts() -> None:
    watch = ValueWatch(lasting=10**9, growth_every=10)
    said = [watch.look(10 * i, 1.6**i, NAN) for i in range(1, 12)]
    assert [len(each) for each in said] == [0] * GROWTHS + [1] * (11 - GROWTHS)
    assert "keeps growing" in said[GROWTHS][0].text
    assert len(watch.look(115, 1.6**11, NAN)) == 1, "between two looks at the growth it lasts"
    assert watch.drifting
    assert watch.look(200, 1.6**11, NAN) == []
    assert not watch.drifting, "it grows no more"


@pytest.mark.parametrize(
    "values",
    [
        [100 * (1 - 0.7**i) + 0.01 for i in range(40)],  # towards what they should be
        [float(i) for i in range(40)],  # in a straight line
        [2.0 ** (i % GROWTHS) for i in range(40)],  # up and down
        [0.0] * 40,
    ],
)
def test_value_watch_normal_learning_curves_do_not_warn(values: list[float]) -> None:
    watch = ValueWatch(lasting=10**9, growth_every=10)
    assert [watch.look(10 * i, value, NAN) for i, value in enumerate(values, 1)] == [[]] * 40


def test_value_watch_after_rollback_restarts_timer() -> None:
    watch = ValueWatch(lasting=100, growth_every=10**9)
    watch.look(0, 11, 10)
    watch.rolled_back(50)
    assert watch.look(120, 11, 10) == []
    assert len(watch.look(220, 11, 10)) == 1


# Heads.

ALIVE = HeadNumbers("steer", 0.9, 0.1, 0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"share": 1.0}, "chosen the same action"),
        ({"spread": 1e-8}, "output has been the same"),
        ({"gradient": 0.0}, "no gradient"),
    ],
)
def test_head_watch_dead_head_long_enough_is_found_while_it_lasts(
    change: dict[str, float], words: str
) -> None:
    watch, dead = HeadWatch(lasting=100), ALIVE._replace(**change)
    other = ALIVE._replace(name="other")
    assert watch.look(0, [dead, other]) == []
    assert watch.look(99, [dead, other]) == []
    (found,) = watch.look(100, [dead, other])
    assert found.id == "head_dead_steer"
    assert "the head 'steer' is dead: for 100 updates" in found.text
    assert words in found.text
    assert found.cure.startswith("leave it where one action is") is (change == {"share": 1.0})
    assert [each.id for each in watch.look(300, [dead, other])] == [found.id], "it lasts"
    assert watch.found
    assert watch.look(301, [ALIVE, other]) == watch.found == []
    assert watch.look(302, [dead]) == []
    assert len(watch.look(402, [dead])) == 1


def test_head_watch_nan_numbers_do_not_warn() -> None:
    watch = HeadWatch(lasting=0)
    assert watch.look(0, [ALIVE._replace(spread=NAN, share=1.0, gradient=NAN)]) == []
    assert watch.look(0, [ALIVE._replace(share=NAN)]) == [], "numbers are never chosen twice"


MIXED = (Discrete("fire", 2), Continuous("aim", -1, 1, 2), Discrete("move", 5))


def _trained_learner(
    continuous: str, value: str = "scalar", updates: int = 3
) -> tuple[Learner, Any]:
    spec = spec_of(actions=MIXED)
    learner = learner_of(spec, continuous=continuous, value=value, hidden=(16,))
    batch = batch_of(spec, 64)
    for _ in range(updates):
        learner.step(batch)
    return learner, batch


@pytest.mark.parametrize("value", ["scalar", "c51", "quantile"])
@pytest.mark.parametrize(
    ("continuous", "names"),
    [
        ("regression", ["fire", "move", "aim"]),
        ("gradient", ["fire", "move", "aim"]),
        ("bins", ["fire", "move", "aim[0]", "aim[1]"]),
    ],
)
def test_learner_heads_reports_numbers_per_live_head(
    continuous: str, names: list[str], value: str
) -> None:
    learner, _ = _trained_learner(continuous, value)
    found = learner.heads()
    assert [head.name for head in found] == names
    for head in found:
        assert head.spread > 1e-3, head
        assert head.gradient > 0, head
        assert math.isnan(head.share) == (head.name == "aim"), head
        assert not head.share > 1, head
    assert HeadWatch(lasting=0).look(0, [head._replace(share=0.5) for head in found]) == []


@pytest.mark.parametrize("value", ["scalar", "c51", "quantile"])
@pytest.mark.parametrize("continuous", ["regression", "gradient", "bins"])
def test_head_watch_zeroed_head_weights_reports_only_that_head(continuous: str, value: str) -> None:
    learner, batch = _trained_learner(continuous, value)
    network = learner.network
    atoms = network.values.atoms
    # Of the second branch, "move": behind the value of the state and the choices of "fire".
    rows = slice(atoms * (1 + 2), atoms * (1 + 2 + 5))
    watch = HeadWatch(lasting=5)
    said = []
    for update in range(8):
        learner.step(batch)
        with torch.no_grad():
            network.heads.weight[rows] = 0
        said += watch.look(update, [h._replace(share=min(h.share, 0.5)) for h in learner.heads()])
    assert {found.id for found in said} == {"head_dead_move"}
    assert "the head 'move' is dead" in said[0].text


def test_learner_heads_saturated_continuous_head_has_no_spread() -> None:
    learner, _ = _trained_learner("regression")
    with torch.no_grad():
        learner.network.heads.bias[-2:] = 100.0  # tanh has no gradient there
    found = {head.name: head for head in learner.heads()}
    assert found["aim"].spread < 1e-6
    assert found["fire"].spread > 1e-3


def test_learner_heads_identical_states_returns_empty() -> None:
    learner, batch = _trained_learner("regression", updates=0)
    assert learner.heads() == [], "no update yet"
    batch.states[0][:] = batch.states[0][0].clone()
    learner.step(batch)
    assert learner.heads() == []
