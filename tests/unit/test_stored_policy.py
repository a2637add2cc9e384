"""Policies of checkpoints."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from agent import checkpoint
from agent.checkpoint import CheckpointError, spec_text
from agent.learner import Learner
from agent.networks import QNetwork
from agent.stored_policy import stored_policy
from config.models import AdvantageConfig, ImitationConfig, LearnerConfig
from protocol.spaces import GameSpec
from tests.support.worlds import SPEC

SETTINGS = LearnerConfig(hidden=(8,), normalize_observations=True)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """What a trainer saves, whose observations have a mean of their own."""
    path = tmp_path / "update-0000000005.pt"
    checkpoint.save(path, {"spec": spec_text(SPEC), "learner": state(), "version": 12})
    return path


def state() -> dict[str, object]:
    learner = Learner(SPEC, SETTINGS, AdvantageConfig(), ImitationConfig(), device="cpu", seed=3)
    learner.observe(np.random.default_rng(0).normal(5, 2, (50, 3)).astype(np.float32))
    return learner.state_dict()


def test_stored_policy_plays_as_the_network_that_was_saved(saved: Path) -> None:
    policy = stored_policy(saved, SPEC, SETTINGS)
    network = QNetwork(SPEC, SETTINGS)
    network.load_state_dict(checkpoint.load(saved)["learner"]["network"])
    obs = np.random.default_rng(1).normal(5, 2, (200, 3)).astype(np.float32)
    expected = network.greedy(torch.from_numpy(obs)).numpy()
    np.testing.assert_allclose(policy.greedy(obs), expected, rtol=1e-6)
    assert len(np.unique(expected[:, 0])) > 1
    assert policy.version == 12


def test_checkpoint_of_another_game_is_refused(saved: Path) -> None:
    other: GameSpec = msgspec.structs.replace(SPEC, game="other").checked()
    with pytest.raises(CheckpointError, match="expected a checkpoint of the game"):
        stored_policy(saved, other, SETTINGS)


def test_checkpoint_of_another_network_is_refused_with_the_setting(saved: Path) -> None:
    wide = LearnerConfig(hidden=(16,), normalize_observations=True)
    with pytest.raises(CheckpointError, match=r"learner\.hidden is \[16\], and was \[8\]"):
        stored_policy(saved, SPEC, wide)


@pytest.mark.parametrize("changes", [{"learner": {}}, {"learner": None}, {"version": None}])
def test_state_that_is_no_trainers_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "odd.pt"
    checkpoint.save(path, {"spec": spec_text(SPEC), "learner": state(), "version": 1} | changes)
    with pytest.raises(CheckpointError, match="name another checkpoint"):
        stored_policy(path, SPEC, SETTINGS)
