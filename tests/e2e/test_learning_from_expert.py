"""What the default settings make of an expert: its recommendations are learnt although it hardly
plays, and a student that has become as good as it is held back no longer.

Two small games (tests/support/small_games.py), in lock step; then what they test is broken, and the
same run has to fail.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from agent.batch import Batch
from agent.replay import Replay
from agent.trust import Trust
from config.load import config_from
from lab.sync_trainer import EvaluationPoint, SyncTrainerOptions, run
from tests.support import small_games
from tests.support.small_games import DOORS, STAIRS

SETTINGS: dict[str, Any] = {
    "run.seed": 1,
    "trainer.device": "cpu",
    "trainer.replay_ratio": 0.5,
    "trainer.min_steps": 100,
    "replay.capacity_steps": 4000,
    "learner.hidden": (32,),
    "learner.batch_size": 32,
    "learner.learning_rate": 2e-3,
}

HARDLY: dict[str, Any] = {
    "expert.ratio.start": 0.02,
    "expert.ratio.end": 0.02,
    "expert.decay": "schedule",
    "imitation.decay": "schedule",
}


def learnt(env: str, expert: str, frames: int, **settings: Any) -> EvaluationPoint:
    """The evaluation at the end of a run."""
    config = config_from(SETTINGS | settings)
    name = f"{small_games.__name__}:{expert}"
    options = SyncTrainerOptions(env, frames, expert=name, eval_every=frames, eval_episodes=1)
    (found,) = run(config, options)
    return found


def doors() -> float:
    """The return of an expert that recommends all the time, and plays one frame in fifty."""
    found = learnt(DOORS, "knows_doors", 1200, **HARDLY)
    assert found.metrics["buffer_frac_expert"] < 0.1
    return found.mean


def shuffled_recommendations(patch: pytest.MonkeyPatch) -> None:
    """A row has the recommendation of another one."""
    sample, generator = Replay.sample_several, torch.Generator()

    def shuffled(*args: Any) -> Batch:
        batch = sample(*args)
        order = torch.randperm(len(batch), generator=generator)
        return replace(batch, recommended=batch.recommended[order])

    patch.setattr(Replay, "sample_several", shuffled)


def test_student_learns_from_recommendations_of_expert_that_hardly_plays() -> None:
    assert doors() == 1.0, "it goes through all doors"


def test_shuffled_recommendations_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled_recommendations(monkeypatch)
    assert doors() == 0.0


def stairs() -> EvaluationPoint:
    """A timid expert, which earns 0.2 of 0.8, and default settings of what it is to the student."""
    return learnt(STAIRS, "timid", 2000)


def test_student_exceeds_timid_expert_once_it_is_as_good() -> None:
    found = stairs()
    assert found.mean == pytest.approx(0.8)
    assert found.metrics["imitation_weight"] < 0.1
    assert found.metrics["expert_ratio"] < 0.1


def test_weight_that_stays_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trust, "compare", lambda *_: None)
    found = stairs()
    assert found.metrics["imitation_weight"] == 1.0
    assert found.mean == pytest.approx(0.2), "the student is held at what the expert does"
