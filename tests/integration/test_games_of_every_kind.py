"""All games of `lab.games` for a moment, each against a server that learns from it. For as long as
docs/gymnasium.md says: `python -m lab.games.play`."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import pytest

from lab.games.cases import CASES, PlayedCase
from lab.games.play import play
from tests.support.running import TINY
from understudy_client.experts import find, returns

FRAMES = 120

QUICK: dict[str, Any] = TINY | {
    "learner.batch_size": 8,
    "trainer.replay_ratio": 0.1,
    "replay.capacity_steps": 2000,
}

NEEDS = {"MiniGrid-": "minigrid", "MinAtar/": "minatar", "ALE/": "cv2"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_game_is_played_and_learnt_from_with_right_tags_and_without_a_warning(
    case: PlayedCase,
) -> None:
    for prefix, module in NEEDS.items():
        if case.name.startswith(prefix) and importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")
    played = play(case, FRAMES, QUICK)
    assert played.wrong(FRAMES, case.restarts) == []


@pytest.mark.parametrize(
    ("name", "least"), [("Taxi-v4", 4.0), ("MiniGrid-Empty-8x8-v0", 0.9)], ids=str
)
def test_expert_of_a_game_ends_each_episode_well(name: str, least: float) -> None:
    if name.startswith("MiniGrid-"):
        pytest.importorskip("minigrid")
    case = next(case for case in CASES if case.name == name and case.expert)
    expert = find(case.env, case.expert)
    assert expert is not None
    assert min(returns(case.env, expert, 5)) >= least


def test_what_is_wrong_of_a_game_is_told() -> None:
    case = next(case for case in CASES if case.name == "CartPole-v1")
    played = play(case, 20, QUICK)
    assert played.wrong(20) == ["no updates", "the loss is nan"]
    lost = replace(played.attribution, mismatches=1)
    assert len(replace(played, attribution=lost, updates=1, loss=0.5).wrong(20)) == 1
    assert len(replace(played, failures=["x"], warnings=["y"], lost=1, skipped=1).wrong(21)) == 7
