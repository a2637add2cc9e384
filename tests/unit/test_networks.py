"""What the network computes, compared with the plain formulas and with autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from agent.networks import QNetwork
from agent.parameters import flatten_parameters
from config.models import LearnerConfig
from protocol.spaces import Continuous, Discrete, GameSpec, Head, Observation
from tests.support.tensors import assert_close

FIRE, AIM = Discrete("fire", 4), Continuous("aim", -0.9, 0.9, 1)
ACTIONS: dict[str, tuple[Head, ...]] = {
    "hybrid": (FIRE, AIM),
    "discrete": (FIRE,),
    "continuous": (AIM,),
    "several": (
        Continuous("a", 0.0, 10.0, 2),
        Discrete("b", 3),
        Continuous("c", -2.0, -1.0, 1),
        Discrete("d", 5),
        Discrete("e", 2),
    ),
}


def spec_of(actions: tuple[Head, ...], dtype: str = "float32") -> GameSpec:
    return GameSpec("g", Observation(dtype, (2, 3)), actions).checked()


@pytest.fixture(params=ACTIONS.values(), ids=ACTIONS.keys())
def spec(request: pytest.FixtureRequest) -> GameSpec:
    return spec_of(request.param)


def network_of(spec: GameSpec, hidden: tuple[int, ...] = (16, 8)) -> QNetwork:
    torch.manual_seed(1)
    network = QNetwork(spec, LearnerConfig(hidden=hidden))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 3  # outputs that differ from row to row
    return network


def reference_outputs(
    network: QNetwork, spec: GameSpec, obs: Tensor
) -> tuple[list[Tensor], Tensor, Tensor]:
    """The same network in the words of a textbook: Q of each head, value, continuous action."""
    x = obs.reshape(len(obs), -1)
    for layer in network.trunk:
        x = torch.relu(layer(x))
    x = network.heads(x)
    value, q, start = x[:, 0], [], 1
    for head in spec.discrete:
        advantage = x[:, start : start + head.n]
        q.append(value[:, None] + advantage - advantage.mean(1, keepdim=True))
        start += head.n
    columns = list(spec.continuous_columns)
    low, high = torch.tensor(spec.low[columns]), torch.tensor(spec.high[columns])
    return q, value, low + (torch.tanh(x[:, start:]) + 1) / 2 * (high - low)


def test_network_outputs_match_formulas(spec: GameSpec) -> None:
    network, obs = network_of(spec), torch.randn(20, 2, 3)
    out = network(obs)
    q, value, continuous = reference_outputs(network, spec, obs)
    assert out.q.shape == (20, sum(head.n for head in spec.discrete))
    if q:
        assert_close(out.q, torch.cat(q, 1))
    assert_close(out.value, value)
    assert_close(out.continuous, continuous)
    assert out.continuous.shape == (20, len(spec.continuous_columns))


def test_mean_q_of_each_head_equals_value() -> None:
    spec = spec_of(ACTIONS["several"])
    out = network_of(spec)(torch.randn(20, 6))
    for q in torch.split(out.q, [3, 5, 2], dim=1):
        assert q.std() > 0.01
        assert_close(q.mean(1), out.value)


def test_greedy_gives_best_action_in_column_order_of_game(spec: GameSpec) -> None:
    network, obs = network_of(spec), torch.randn(50, 2, 3)
    rows = network.greedy(obs)
    assert rows.shape == (50, spec.action_width)
    assert rows.dtype == torch.float32
    q, _, continuous = reference_outputs(network, spec, obs)
    for column, head_q in zip(spec.discrete_columns, q, strict=True):
        assert torch.equal(rows[:, column].long(), head_q.argmax(1))
        assert len(rows[:, column].unique()) > 1
    assert_close(rows[:, list(spec.continuous_columns)], continuous)
    assert torch.equal(network.greedy(obs.flatten(1)), rows)


def test_uint8_observations_are_divided_by_255() -> None:
    floats, pixels = spec_of((FIRE, AIM)), spec_of((FIRE, AIM), "uint8")
    obs = torch.randint(0, 256, (10, 2, 3), dtype=torch.uint8)
    network, same = network_of(floats), network_of(pixels)
    assert_close(same(obs).q, network(obs / 255).q)
    assert_close(same.greedy(obs), network.greedy(obs / 255))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2, unique=True))
def test_saturated_continuous_head_stays_within_range(ends: list[float]) -> None:
    low, high = sorted(ends)
    network = QNetwork(spec_of((Continuous("aim", low, high, 1),)), LearnerConfig(hidden=(2,)))
    with torch.no_grad():
        for sign in (-1, 1):
            network.heads.bias[1] = sign * 100.0
            network.heads.weight[1] = 0
            action = network(torch.zeros(1, 6)).continuous.item()
            assert np.float32(low) <= action <= np.float32(high)
            end = high if sign > 0 else low
            assert action == pytest.approx(end, abs=3e-7 * max(abs(low), abs(high)) + 1e-37)
            assert network.greedy(torch.zeros(1, 6)).item() == action


def test_continuous_range_of_one_float_step_stays_finite() -> None:
    next_to_one = float(np.nextafter(np.float32(1), np.float32(2)))
    network = QNetwork(
        spec_of((Continuous("aim", 1.0, next_to_one, 1),)), LearnerConfig(hidden=(2,))
    )
    action = network.greedy(torch.zeros(1, 6))
    assert 1 <= action.item() <= next_to_one
    assert network.to_squashed(torch.tensor([[1.0], [next_to_one]])).abs().max() <= 1


def test_to_squashed_maps_range_to_minus_one_and_one() -> None:
    network = QNetwork(
        spec_of((Continuous("a", 2.0, 6.0, 1), Continuous("b", -1.0, 0.0, 1))),
        LearnerConfig(hidden=(2,)),
    )
    units = network.to_squashed(torch.tensor([[2.0, -1.0], [6.0, 0.0], [5.0, -0.5]]))
    assert units.tolist() == [[-1, -1], [1, 1], [0.5, 0]]


def test_constants_are_not_in_state_dict_or_policy_vector(spec: GameSpec) -> None:
    network = network_of(spec)
    named = ["value_scale", *(name for name, _ in network.named_parameters())]
    assert sorted(network.state_dict()) == sorted(named)
    vector = parameters_to_vector(network.parameters()).detach()
    assert torch.equal(flatten_parameters(network), vector)


def test_output_follows_parameters_in_flat_vector() -> None:
    """Serving lays all parameters into one vector and copies new ones over it."""
    spec = spec_of(ACTIONS["hybrid"])
    network, other, obs = (
        network_of(spec),
        QNetwork(spec, LearnerConfig(hidden=(16, 8))),
        torch.randn(40, 6),
    )
    flat = flatten_parameters(network)
    flat.copy_(parameters_to_vector(other.parameters()).detach())
    assert torch.equal(network.greedy(obs), other.greedy(obs))
