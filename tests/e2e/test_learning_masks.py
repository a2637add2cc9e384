"""Masks are learnt with, and the test notices when they are not.

The game (tests/support/doors.py) cannot be won where a mask is dropped in play, in exploration or
in the target's maximum: each is broken on purpose, and the same check has to fail. Measured with
seeds 1 to 3: 4 intact, 3 broken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from agent import decision as decision_module
from agent import objective
from config.load import config_from
from lab.sync_trainer import SyncTrainerOptions, run
from tests.support.doors import DOORS, OPEN_DOORS

PASSED = 3.9
"""The mean of shop (6) and the right (2) is 4; whoever goes left, or falls, has at most 3."""

SETTINGS: dict[str, Any] = {
    "trainer.device": "cpu",
    "trainer.min_steps": 100,
    "trainer.replay_ratio": 0.4,
    "replay.capacity_steps": 3000,
    "learner.hidden": (32, 32),
    "learner.batch_size": 64,
    "learner.learning_rate": 3e-3,
    "learner.n_step": 1,
    "learner.gamma": 0.9,
    "learner.target_tau": 0.03,
    "exploration.epsilon.start": 1.0,
    "exploration.epsilon.end": 0.5,
    "exploration.epsilon.frames": 1400,
}


def learnt(seed: int, game: str = DOORS) -> float:
    """The return of 20 evaluation episodes after 1,400 frames."""
    config = config_from(SETTINGS | {"run.seed": seed})
    options = SyncTrainerOptions(game, 1400, clients=4, eval_every=1400)
    (evaluation,) = run(config, options)
    return evaluation.mean


def test_game_with_masks_is_won() -> None:
    assert learnt(1) > PASSED


def test_game_without_its_masks_is_lost() -> None:
    assert learnt(1, OPEN_DOORS) < PASSED


def unmasked_target(patch: pytest.MonkeyPatch) -> None:
    """The maximum is over what nobody can do, too."""
    patch.setattr(objective, "masked", lambda q, _legal: q)


def unmasked_exploration(patch: pytest.MonkeyPatch) -> None:
    """Dice know no masks."""

    def any_choice(legal: Any, columns: slice, rng: np.random.Generator) -> Any:
        return rng.integers(columns.stop - columns.start, size=len(legal))

    patch.setattr(decision_module, "random_legal", any_choice)


@pytest.mark.parametrize("sabotage", [unmasked_target, unmasked_exploration])
def test_mask_that_is_dropped_loses_the_game(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    assert learnt(1) < PASSED
