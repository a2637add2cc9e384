"""Values that spread alike whatever the unit of the rewards, and promises against code that breaks
them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from agent import value_scale
from agent.batch import Batch
from agent.learner import Learner
from agent.value_scale import EVERY, SPREAD, ValueScale
from tests.support.learner import HYBRID, NoReadBack, batch_of, learner_of, spec_of
from tests.support.tensors import assert_close

SPEC = spec_of(HYBRID)
UPDATES = 3 * EVERY


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def scaled(**settings: Any) -> Learner:
    return learner_of(SPEC, normalize_values=True, **settings)


def in_units(batch: Batch, unit: float) -> Batch:
    return replace(batch, rewards=batch.rewards * unit, returns=batch.returns * unit)


def taught(unit: float = 1.0, updates: int = UPDATES, **settings: Any) -> Learner:
    learner = scaled(**settings)
    for i in range(updates):
        learner.step(in_units(batch_of(SPEC, seed=i), unit))
    return learner


def q_of(learner: Learner) -> Tensor:
    return learner.network(*batch_of(SPEC, seed=99).states).q.detach()


@pytest.mark.parametrize("value", ["scalar", "quantile"])
@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_game_in_other_units_is_learnt_alike(unit: float, value: str) -> None:
    one, other = taught(value=value), taught(unit, value=value)
    assert_close(one._vector, other._vector, rtol=1e-3, atol=1e-4)
    assert_close(q_of(one), q_of(other) / unit, rtol=1e-3, atol=1e-3)
    for name in ("q_mean", "td_err_mean", "q_max"):
        assert other.metrics()[name] / unit == pytest.approx(
            one.metrics()[name], rel=1e-3, nan_ok=True
        )


def test_targets_spread_as_wanted_at_first() -> None:
    learner = taught(updates=1)
    returns = batch_of(SPEC, seed=0).returns
    assert float(learner.network.value_scale) == pytest.approx(
        float(returns.std(correction=0)) / SPREAD, rel=0.2
    )


def test_change_of_scale_leaves_values_as_they_were() -> None:
    learner = taught()
    assert learner._value_scale is not None
    target = learner.target(*batch_of(SPEC, seed=99).states).q
    before, scale = q_of(learner), float(learner.network.value_scale)
    batch = batch_of(SPEC, seed=5)
    learner._value_scale.look(torch.randn(64) * 1000, batch.returns)
    assert float(learner.network.value_scale) > 3 * scale
    assert_close(q_of(learner), before, rtol=1e-4, atol=1e-4)
    assert_close(learner.target(*batch_of(SPEC, seed=99).states).q, target)


def test_targets_of_update_that_changes_scale_follow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise rewards that suddenly are larger would be errors as large as they are."""
    learner = taught()
    monkeypatch.setattr(value_scale, "RATE", 1.0)
    learner.metrics()
    learner.step(in_units(batch_of(SPEC, seed=5), 1000.0))
    assert learner.metrics()["loss_td"] < 10 * SPREAD


def test_batches_without_reward_and_bad_ones_say_nothing() -> None:
    learner = taught()
    before = float(learner.network.value_scale)
    for i in range(2 * EVERY):
        bad = torch.full((64,), (0.0, float("inf"), float("nan"))[i % 3])
        learner.step(replace(batch_of(SPEC, seed=i), rewards=bad, returns=bad))
    assert float(learner.network.value_scale) == pytest.approx(before)


def test_network_that_was_never_rewarded_keeps_scale_one() -> None:
    learner = scaled()
    nothing = torch.zeros(64)
    for i in range(EVERY):
        learner.step(replace(batch_of(SPEC, seed=i), rewards=nothing, returns=nothing))
    assert float(learner.network.value_scale) == 1


def test_resumed_learner_goes_on_to_the_bit() -> None:
    learner, other = taught(), scaled(seed=2)
    other.load_state_dict(learner.state_dict())
    for i in range(EVERY):
        batch = batch_of(SPEC, seed=100 + i)
        learner.step(batch)
        other.step(batch)
    assert torch.equal(learner._vector, other._vector)
    assert torch.equal(learner.network.value_scale, other.network.value_scale)


def test_state_of_before_keeps_its_values() -> None:
    """They were in units of the game; the first update brings them to the new scale."""
    older = learner_of(SPEC)
    older.step(batch_of(SPEC))
    state = older.state_dict()
    for network in ("network", "target"):
        del state[network]["value_scale"]
    learner = scaled(seed=2)
    learner.load_state_dict(state)
    assert_close(q_of(learner), q_of(older))
    assert learner._value_scale is not None
    batch = batch_of(SPEC, seed=1)
    learner._value_scale.look(batch.returns, batch.returns)
    assert float(learner.network.value_scale) != 1
    assert_close(q_of(learner), q_of(older), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{"normalize_values": False}, {"value": "c51"}])
def test_values_in_units_of_the_game_where_not_wanted_or_fixed(settings: dict[str, Any]) -> None:
    learner = learner_of(SPEC, **({"normalize_values": True} | settings))
    for i in range(3):
        learner.step(batch_of(SPEC, seed=i))
    assert float(learner.network.value_scale) == 1


def test_look_waits_for_no_device() -> None:
    learner = scaled()
    with NoReadBack():
        learner.step(batch_of(SPEC))
        learner.step(batch_of(SPEC))


def test_bfloat16_learns_as_float32_does() -> None:
    whole, half = taught(), taught(precision="bfloat16")
    assert_close(q_of(whole), q_of(half), rtol=0.2, atol=0.3)


@pytest.mark.parametrize("broken", ["_set", "_count"])
def test_broken_scale_is_noticed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ValueScale, broken, lambda *_: None)
    with pytest.raises(AssertionError):
        test_game_in_other_units_is_learnt_alike(1e3, "scalar")


@pytest.mark.parametrize("value", ["scalar", "quantile"])
def test_pass_of_before_a_look_becomes_the_one_that_would_be_made_behind_it(value: str) -> None:
    spec = spec_of(HYBRID)
    learner, batch = learner_of(spec, normalize_values=True, value=value), batch_of(spec)
    learner.step(batch)
    objective, scale = learner._objective, learner._value_scale
    assert scale is not None
    before = objective.forward(batch)
    factor = scale.look(9 * before.target.mean(1), batch.returns)
    assert (factor - 1).abs() > 0.01
    found, anew = objective.rescaled(before, factor), objective.forward(batch)
    assert found is not None
    for name in ("head_outputs", "value_params", "target"):
        assert_close(getattr(found, name), getattr(anew, name), rtol=1e-4, atol=1e-5)
