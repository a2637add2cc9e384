"""A memory is learnt, and the test notices where the state is lost on its way.

The maze (tests/support/forgetful_games.py) asks at its end for what only its first frame showed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent import objective
from agent.past import Recalled, recall
from agent.policy import Policy
from config.load import config_from
from lab.sync_trainer import SyncTrainerOptions, run
from tests.support.forgetful_games import MAZE

SETTINGS: dict[str, Any] = {
    "run.seed": 1,
    "trainer.device": "cpu",
    "trainer.min_steps": 200,
    "replay.capacity_steps": 2000,
    "learner.hidden": (32, 32),
    "learner.batch_size": 64,
    "learner.learning_rate": 2e-3,
    "learner.target_tau": 0.02,
    "learner.memory_units": 16,
    "learner.memory_burn_in": 2,
    "learner.memory_unroll": 8,
    "exploration.epsilon.start": 1.0,
    "exploration.epsilon.end": 0.05,
    "exploration.epsilon.frames": 1000,
}


def learnt(**more: Any) -> float:
    """The return of 20 evaluation episodes after 1,200 frames."""
    options = SyncTrainerOptions(MAZE, 1200, clients=8, eval_every=1200)
    (evaluation,) = run(config_from(SETTINGS | more), options)
    return evaluation.mean


def test_network_with_a_memory_finds_its_way() -> None:
    assert learnt(**{"learner.memory": "gru"}) == 1.0


@pytest.mark.parametrize("frame_stack", [1, 4])
def test_network_that_sees_a_few_frames_does_not(frame_stack: int) -> None:
    assert learnt(**{"replay.frame_stack": frame_stack}) < 0.7


def lost_in_play(patch: pytest.MonkeyPatch) -> None:
    """The gateway's states stay as they are in the first frame: zeros."""
    greedy = Policy.greedy

    def forgetful(self: Policy, obs: Any, legal: Any = None, state: Any = None) -> Any:
        actions = greedy(self, obs, legal, state)
        state[:] = 0
        return actions

    patch.setattr(Policy, "greedy", forgetful)


def lost_in_learning(patch: pytest.MonkeyPatch) -> None:
    """What led to a row is forgotten before it is learnt from."""

    def nothing(*given: Any) -> Recalled:
        found = [None if state is None else state * 0 for state in recall(*given)]
        return Recalled(*found)

    patch.setattr(objective, "recall", nothing)


@pytest.mark.parametrize("sabotage", [lost_in_play, lost_in_learning])
def test_network_whose_state_is_lost_does_not(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    assert learnt(**{"learner.memory": "gru"}) < 0.7
