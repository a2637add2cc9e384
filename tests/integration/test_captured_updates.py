"""Updates that are captured once and run again without Python, against the same ones called."""

from __future__ import annotations

import logging
import math
from collections import Counter
from typing import Any

import pytest
import torch

from agent import learner as learner_module
from agent.value_scale import EVERY
from protocol.spaces import Discrete, Observation
from tests.support.captured import DEVICES, CapturedWorld, Plain, spec_of
from tests.support.tensors import assert_close

# Priority alone has a test of its own below. Options that meet nowhere in an update share a case.
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "shares, no advantage weights": {
        "replay__actor_share": {"expert": 0.25}, "advantage__mode": "off",
    },
    "priority and shares": {"replay__prioritized": True, "replay__actor_share": {"expert": 0.25}},
    "bfloat16, a rate that changes": {
        "learner__precision": "bfloat16", "learner__warmup_updates": 20,
        "learner__cosine_updates": 50,
    },
    "c51, a target that is copied": {
        "learner__value": "c51", "learner__atoms": 11,
        "learner__target": "hard", "learner__target_every": 5,
    },
    "quantiles, bins": {"learner__value": "quantile", "learner__continuous": "bins"},
    "the gradient of values": {"learner__continuous": "gradient"},
    "normalized observations": {"learner__normalize_observations": True},
    "stacked frames": {"replay__frame_stack": 3},
    "memory": {"learner__memory": "gru", "learner__memory_units": 8, "learner__memory_burn_in": 2,
        "learner__memory_unroll": 2,
    },
    "all losses": {
        "imitation__taken": 0.1, "imitation__loss": "cross_entropy", "learner__n_step": 5,
        "advantage__applies_to": ["td", "continuous", "imitation"], "advantage__mode": "global",
        "learner__normalize_values": False, "advantage__actor_factor": {"dqn": 2.0},
    },
}  # fmt: skip

GAMES = {
    "numbers": spec_of(),
    "a picture": spec_of(Observation("uint8", (16, 16, 2))),
    "choices only": spec_of(heads=(Discrete("a", 3), Discrete("b", 5))),
    "masks": spec_of(heads=(Discrete("a", 9),), masks=True),
}

CASES = [("numbers", name) for name in SETTINGS] + [(game, "default") for game in GAMES][1:]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("game", "name"), CASES)
def test_captured_updates_equal_updates_that_are_called(device: str, game: str, name: str) -> None:
    worlds = [
        CapturedWorld(GAMES[game], device, capturer=capturer, **SETTINGS[name])
        for capturer in (None, Plain())
    ]
    for world in worlds:
        world.run()
    captured, called = worlds
    assert captured.captured.problem is None
    calls = list(captured.captured._begun.values())
    assert {len(each.result) for each in calls if each} == {1, EVERY}
    # A GPU adds up in another order each time.
    exact = {"rtol": 1e-2, "atol": 1e-3} if device == "cuda" else {"rtol": 0.0, "atol": 0.0}
    assert captured.learner.updates == called.learner.updates == 54
    found, wanted = (world.learner.policy_vector() for world in worlds)
    assert_close(found, wanted, **exact)
    metrics, expected = (world.learner.metrics() for world in worlds)
    assert metrics == pytest.approx(expected, rel=1e-2, abs=1e-3, nan_ok=True)
    assert not math.isnan(metrics["loss"])
    assert captured.replay.priorities() == pytest.approx(
        called.replay.priorities(), rel=1e-2, nan_ok=True
    )
    assert captured.learner.batch_lines() == called.learner.batch_lines()


def test_captured_updates_follow_settings_and_states_that_change() -> None:
    worlds = [CapturedWorld(GAMES["numbers"], capturer=r) for r in (None, Plain())]
    for world in worlds:
        world.run()
        config = world.config.learner.model_copy(update={"target_tau": 0.3, "huber_delta": 0.1})
        world.learner.configure(config, world.config.advantage, world.config.imitation)
        world.replay.n_step = 1
        world.learn(12)
        world.learner.load_state_dict(world.learner.state_dict())
        world.learn(12)
    found, wanted = (world.learner.policy_vector() for world in worlds)
    assert_close(found, wanted, rtol=0.0, atol=0.0)


def test_captured_updates_by_priority_equal_those_of_a_learner_that_captures_nothing() -> None:
    spec, settings = GAMES["numbers"], {"replay__prioritized": True}
    captured, other = CapturedWorld(spec, **settings), CapturedWorld(spec, **settings)
    other.captured.problem = "not wanted"
    for world in (captured, other):
        world.run()
    vectors = [world.learner.policy_vector() for world in (captured, other)]
    assert_close(*vectors, rtol=1e-5, atol=1e-6)


def test_update_that_waits_for_a_value_is_not_captured_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, calls = learner_module.shortening, Counter[int]()

    def shortening(norm: torch.Tensor, max_norm: float) -> torch.Tensor:
        at = world.learner.updates
        calls[at] += 1
        if (at, calls[at]) == (20, 2):  # amid the capture of ten
            float(norm)
        return plain(norm, max_norm)

    monkeypatch.setattr(learner_module, "shortening", shortening)
    world = CapturedWorld(GAMES["numbers"])
    world.play(200)
    with caplog.at_level(logging.WARNING, "trainer"):
        world.learn(30)
    (record,) = caplog.records
    assert "not captured as CUDA graphs" in record.getMessage()
    assert "asks for a value" in record.getMessage()
    assert world.learner.updates == 30
    assert calls[20] == 2 + EVERY, "the ten were called once more"
    metrics = world.learner.metrics()
    rows = metrics["batch_n_dqn"] + metrics["batch_n_expert"]
    assert rows == pytest.approx(16), "what was kept of the capture counts for nothing"
    assert metrics["updates_skipped"] == world.learner.skipped_in_a_row() == 0
