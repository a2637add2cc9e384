"""agent/parameters.py: the flat vector and its bfloat16 copy."""

from __future__ import annotations

import torch
from torch.nn.utils import parameters_to_vector

from agent.networks import QNetwork
from agent.parameters import Bfloat16Copy, flatten_parameters, parameter_views
from config.models import LearnerConfig
from tests.support.worlds import SPEC


def network_for(seed: int, **settings: object) -> QNetwork:
    torch.manual_seed(seed)
    return QNetwork(SPEC, LearnerConfig(hidden=(16, 8), **settings))


def vector_of(network: torch.nn.Module) -> torch.Tensor:
    return parameters_to_vector(network.parameters()).detach()


def test_flatten_parameters_keeps_values_and_shares_vector() -> None:
    network = network_for(4)
    before = vector_of(network)
    flat = flatten_parameters(network)
    assert torch.equal(flat, before)
    assert torch.equal(vector_of(network), before)
    flat.fill_(0.25)
    assert all((parameter == 0.25).all() for parameter in network.parameters())


def test_parameter_views_have_shapes_and_order_of_parameters() -> None:
    network = network_for(1)
    vector = torch.arange(float(len(vector_of(network))))
    views = parameter_views(vector, network)
    assert [view.shape for view in views] == [p.shape for p in network.parameters()]
    assert torch.equal(torch.cat([view.reshape(-1) for view in views]), vector)
    views[1].fill_(-1.0)
    assert (vector == -1).sum() == views[1].numel(), "a copy, not a view"


def test_bfloat16_copy_follows_network_after_refresh() -> None:
    network = network_for(2)
    vector = flatten_parameters(network)
    copied = Bfloat16Copy(network, vector)
    assert all(p.dtype == torch.bfloat16 for p in copied.network.parameters())
    assert all(p.dtype == torch.float32 for p in network.parameters())
    before = vector_of(copied.network).clone()
    vector.mul_(2)
    assert torch.equal(vector_of(copied.network), before)
    copied.refresh()
    assert torch.equal(vector_of(copied.network), vector.to(torch.bfloat16))


def test_bfloat16_copy_shares_float32_observation_statistics() -> None:
    network = network_for(3, normalize_observations=True)
    copied = Bfloat16Copy(network, flatten_parameters(network))
    assert copied.network.obs_mean.dtype == torch.float32
    network.obs_mean.fill_(3.0)
    assert (copied.network.obs_mean == 3).all()
