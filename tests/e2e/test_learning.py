"""It learns, and the test notices when it does not.

Each lesson of the game (tests/support/lessons.py) is learnt by another part of the learner; the
check is one number, the return over all of them. Then each part is broken on purpose, and the same
check has to fail. Measured with seeds 1 to 6: 3.13 to 3.33 intact, at most 2.66 broken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from agent import advantage as advantage_module
from agent import learner as learner_module
from agent.replay import Batch, Replay
from config.load import config_from
from lab.sync_trainer import SyncTrainerOptions, run
from protocol.actor import Actor
from tests.support.lessons import LESSONS, TEACHER

PASSED = 2.9

SETTINGS: dict[str, Any] = {
    "trainer.device": "cpu",
    "trainer.min_steps": 100,
    "trainer.replay_ratio": 0.4,
    "replay.capacity_steps": 2000,
    "learner.hidden": (32, 32),
    "learner.batch_size": 64,
    "learner.learning_rate": 3e-3,
    "learner.n_step": 1,  # more would see the repayment, and shorten the corridor
    "learner.gamma": 0.9,
    "learner.target_tau": 0.03,
    "imitation.expert.start": 1.5,
    "imitation.expert.end": 1.5,
    "imitation.loss": "margin",
    "imitation.decay": "schedule",
    "imitation.rows": "expert",
    "expert.decay": "schedule",
    "expert.ratio.start": 0.5,
    "expert.ratio.end": 0.5,
    "exploration.epsilon.start": 0.5,
    "exploration.epsilon.end": 0.5,
    "exploration.noise.start": 0.6,
    "exploration.noise.end": 0.6,
}


def learnt(seed: int) -> float:
    """The return of 20 evaluation episodes after 2,000 frames."""
    config = config_from(SETTINGS | {"run.seed": seed})
    options = SyncTrainerOptions(LESSONS, 2000, expert=TEACHER, eval_every=2000)
    (evaluation,) = run(config, options)
    return evaluation.mean


@pytest.mark.parametrize("seed", [1, 2])
def test_learner_solves_every_lesson(seed: int) -> None:
    assert learnt(seed) > PASSED


def shuffled_weights(patch: pytest.MonkeyPatch) -> None:
    """Advantage weights belong to other rows of the batch."""
    weigh, generator = advantage_module.advantage_weights, torch.Generator()

    def shuffled(*args: Any, **kwargs: Any) -> Tensor:
        weights = weigh(*args, **kwargs)
        return weights[torch.randperm(len(weights), generator=generator)]

    patch.setattr(advantage_module, "advantage_weights", shuffled)


def tags_changed(patch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
    sample = Replay.sample_several

    def changed(*args: Any) -> Batch:
        batch = sample(*args)
        return replace(batch, actors=change(batch.actors))

    patch.setattr(Replay, "sample_several", changed)


def swapped_tags(patch: pytest.MonkeyPatch) -> None:
    """The student's rows are tagged expert, and the expert's dqn."""
    tags_changed(patch, lambda actors: Actor.DQN + Actor.EXPERT - actors)


def shuffled_tags(patch: pytest.MonkeyPatch) -> None:
    """Tags belong to other rows of the batch."""
    generator = torch.Generator()
    tags_changed(patch, lambda actors: actors[torch.randperm(len(actors), generator=generator)])


def frozen_target(patch: pytest.MonkeyPatch) -> None:
    """The target network stays what it was at first."""
    patch.setattr(learner_module, "soft_update", lambda *_: None)


@pytest.mark.parametrize("sabotage", [shuffled_weights, swapped_tags, shuffled_tags, frozen_target])
def test_broken_learner_fails_its_lesson(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    assert learnt(1) < PASSED
