"""What the default settings make of an expert, learnt in lock step: what it recommends is learnt
although it hardly plays, and a student that has become as good is held back no longer."""

from __future__ import annotations

from typing import Any

from config.load import config_from
from lab.sync_trainer import EvaluationPoint, SyncTrainerOptions, run
from tests.support import small_games

SMALL: dict[str, Any] = {
    "run.seed": 1,
    "trainer.device": "cpu",
    "trainer.replay_ratio": 0.5,
    "trainer.min_steps": 100,
    "learner.hidden": (32,),
    "learner.batch_size": 32,
    "learner.learning_rate": 2e-3,
}


def learn(env: str, expert: str, frames: int, **settings: Any) -> EvaluationPoint:
    """The last evaluation of a run. The names of settings have two underscores for a dot."""
    changed = {name.replace("__", "."): value for name, value in settings.items()}
    options = SyncTrainerOptions(
        env,
        frames,
        expert=f"{small_games.__name__}:{expert}",
        eval_every=frames,
        eval_episodes=1,
    )
    return run(config_from(SMALL | changed, source="test"), options)[-1]


def test_student_learns_what_expert_recommends_where_it_hardly_plays() -> None:
    found = learn(
        small_games.DOORS,
        "knows_doors",
        1500,
        imitation__decay="schedule",
        expert__ratio__start=0.02,
        expert__ratio__end=0.02,
        exploration__epsilon__start=0.05,
    )
    assert found.metrics["buffer_frac_expert"] < 0.1
    assert found.returns == (1.0,), "it goes through all doors"


def test_student_exceeds_timid_expert_once_it_is_as_good() -> None:
    found = learn(small_games.STAIRS, "timid", 3000)
    assert found.metrics["imitation_weight"] < 0.1
    assert found.mean > 0.7, "the expert earns 0.2"
