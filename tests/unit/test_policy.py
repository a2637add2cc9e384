from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from agent.learner import Learner
from agent.networks import QNetwork
from agent.policy import Policy
from config.models import AdvantageConfig, ImitationConfig, LearnerConfig
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from tests.support.worlds import PIXELS, SPEC

SETTINGS = LearnerConfig(hidden=(16, 8))


class FakeWeightSource:
    """A WeightSource with the weights that a test puts there."""

    def __init__(self) -> None:
        self.version = 0
        self.vector: npt.NDArray[np.float32] = np.zeros(0, np.float32)
        self.torn = False
        self.fetched = 0

    def put(self, vector: torch.Tensor) -> None:
        self.version += 1
        self.vector = vector.numpy().copy()

    def fetch(self, out: npt.NDArray[np.float32]) -> int:
        self.fetched += 1
        if self.torn:
            out[:] = np.nan
            return 0
        out[:] = self.vector
        return self.version


IMAGES = GameSpec(
    "images",
    Observation("uint8", (2, 5, 3)),
    (Continuous("aim", 0.0, 10.0, 2), Discrete("fire", 3), Discrete("jump", 2)),
).checked()


def vector_of(network: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach()


def network_for(spec: GameSpec, seed: int) -> QNetwork:
    torch.manual_seed(seed)
    return QNetwork(spec, SETTINGS)


def observations(spec: GameSpec, n: int = 9) -> npt.NDArray[Any]:
    """Flat, as the gateway holds them."""
    rng = np.random.default_rng(1)
    numbers = rng.integers(0, 255, (n, spec.observation_size))
    return numbers.astype(spec.observation_dtype)


@pytest.mark.parametrize("spec", [SPEC, PIXELS, IMAGES])
def test_policy_after_refresh_plays_weights_of_source(spec: GameSpec) -> None:
    source = FakeWeightSource()
    policy = Policy(spec, SETTINGS, source)
    obs = observations(spec)
    for seed in (1, 2):
        network = network_for(spec, seed)
        source.put(vector_of(network))
        assert policy.refresh()
        assert policy.version == source.version
        states = torch.from_numpy(obs).view(-1, *spec.observations[0].shape)
        np.testing.assert_array_equal(policy.greedy(obs), network.greedy(states).numpy())


LARGE = GameSpec("large", Observation("uint8", (12, 10)), (Discrete("fire", 3),)).checked()


@pytest.mark.parametrize("spec", [SPEC, PIXELS, IMAGES, LARGE])
def test_policy_with_frame_stack_matches_network(spec: GameSpec) -> None:
    source = FakeWeightSource()
    policy = Policy(spec, SETTINGS, source, frame_stack=3)
    torch.manual_seed(1)
    network = QNetwork(spec, SETTINGS, frame_stack=3)
    source.put(vector_of(network))
    policy.refresh()
    stacks = observations(spec, 27).reshape(9, -1)
    states = torch.from_numpy(stacks).view(9, 3, *spec.observations[0].shape)
    np.testing.assert_array_equal(policy.greedy(stacks), network.greedy(states).numpy())


def test_policy_given_learner_vector_matches_learner_network() -> None:
    learner = Learner(SPEC, SETTINGS, AdvantageConfig(), ImitationConfig(), device="cpu", seed=3)
    source = FakeWeightSource()
    source.put(learner.policy_vector())
    policy = Policy(SPEC, SETTINGS, source)
    policy.refresh()
    obs = observations(SPEC)
    expected = learner.network.greedy(torch.from_numpy(obs)).numpy()
    np.testing.assert_array_equal(policy.greedy(obs), expected)


def test_policy_refresh_fetches_only_newer_weights() -> None:
    source = FakeWeightSource()
    policy = Policy(SPEC, SETTINGS, source)
    assert not policy.refresh()
    source.put(vector_of(network_for(SPEC, 1)))
    assert policy.refresh()
    assert not policy.refresh()
    assert source.fetched == 1


def test_policy_refresh_with_torn_weights_keeps_previous() -> None:
    source = FakeWeightSource()
    policy = Policy(SPEC, SETTINGS, source)
    source.put(vector_of(network_for(SPEC, 1)))
    policy.refresh()
    obs = observations(SPEC)
    before = policy.greedy(obs)
    source.put(vector_of(network_for(SPEC, 2)))
    source.torn = True
    assert not policy.refresh()
    assert policy.version == 1
    np.testing.assert_array_equal(policy.greedy(obs), before)
    source.torn = False
    assert policy.refresh()
    assert policy.version == 2
    assert not np.array_equal(policy.greedy(obs), before)


def test_policy_greedy_result_changed_by_caller_leaves_policy() -> None:
    source = FakeWeightSource()
    policy = Policy(SPEC, SETTINGS, source)
    source.put(vector_of(network_for(SPEC, 1)))
    policy.refresh()
    obs = observations(SPEC)
    first = policy.greedy(obs)
    kept = first.copy()
    first[:] = np.nan
    np.testing.assert_array_equal(policy.greedy(obs), kept)
    assert kept.dtype == np.float32
    assert kept.shape == (len(obs), SPEC.action_width)
    assert ((kept >= SPEC.low) & (kept <= SPEC.high)).all()
