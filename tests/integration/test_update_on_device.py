"""An update on the meta device, which has no values: it refuses whoever asks for one, and whoever
brings along a tensor from the host. So does a GPU, which makes the others wait or fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from agent import learner as module
from agent.batch import Batch
from agent.learner import Learner
from config.models import AdvantageConfig, ImitationConfig, LearnerConfig
from protocol.spaces import Discrete, GameSpec, Observation
from tests.support.learner import HYBRID, SEVERAL, batch_of, spec_of

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "c51": {"value": "c51", "normalize_values": False},
    "quantiles": {"value": "quantile"},
    "bfloat16": {"precision": "bfloat16"},
    "bins": {"continuous": "bins"},
    "the gradient of values": {"continuous": "gradient"},
    "a target that is copied": {"target": "hard", "target_every": 2},
}

PICTURE = GameSpec("g", Observation("uint8", (16, 16, 2)), (Discrete("a", 3),))


@pytest.fixture(autouse=True)
def on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    first_network = module.first_network

    def made(*args: Any) -> Any:
        # Parameters that are moved there become other ones, unlike those moved to cuda.
        with torch.device("meta"):
            return first_network(*args)

    def adam(*lists: list[Tensor], **options: Any) -> None:
        given = [each for tensors in lists for each in tensors]
        given += [each for each in options.values() if isinstance(each, Tensor)]
        assert {each.device.type for each in given} == {"meta"}

    monkeypatch.setattr(module, "first_network", made)
    monkeypatch.setattr(torch, "_fused_adam_", adam)  # the only kernel that meta does not have


def learner_on_meta(spec: GameSpec, **options: Any) -> Learner:
    config = LearnerConfig(hidden=(16, 8), grad_norm_every=2, **options)
    imitation = ImitationConfig(taken=0.1)
    return Learner(spec, config, AdvantageConfig(), imitation, device="meta", seed=1)


def batch_on_meta(spec: GameSpec) -> Batch:
    batch = batch_of(spec).to("meta")
    if spec is not PICTURE:
        return batch
    states = tuple(each.to(torch.uint8) for each in batch.states)
    return replace(batch, states=states, next_states=states)


GAMES = {"one head of each kind": spec_of(HYBRID), "several": spec_of(SEVERAL), "picture": PICTURE}

CASES = [("one head of each kind", name) for name in OPTIONS]
CASES += [("several", "default"), ("picture", "default")]


@pytest.mark.parametrize(("game", "name"), CASES)
def test_update_stays_on_its_device_and_asks_for_no_value(game: str, name: str) -> None:
    spec = GAMES[game]
    learner, batch = learner_on_meta(spec, **OPTIONS[name]), batch_on_meta(spec)
    cloning = torch.ones((), device="meta")
    for _ in range(3):
        wanted = learner.wanted(batch, len(batch), cloning)
        assert learner.step(batch, wanted=wanted).device.type == "meta"
    learner.add_up()
    assert learner.updates == 3


def test_update_that_asks_for_a_value_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(HYBRID)
    learner, batch = learner_on_meta(spec), batch_on_meta(spec)
    monkeypatch.setattr(module, "shortening", lambda norm, _: norm / float(norm))
    with pytest.raises((RuntimeError, NotImplementedError)):
        learner.step(batch)


def test_update_with_a_tensor_of_the_host_is_noticed() -> None:
    spec = spec_of(HYBRID)
    learner, batch = learner_on_meta(spec), batch_on_meta(spec)
    learner._actors = learner._actors.new_empty(2, device="cpu")
    with pytest.raises((RuntimeError, NotImplementedError)):
        learner.step(batch)
