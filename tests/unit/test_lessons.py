"""Lessons: which settings the games are told when a metric has passed a value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from config.load import ConfigError, config_from
from config.models import Config
from server.supervisor import lessons
from server.supervisor.lessons import Lessons

PLAN = [
    {"metric": "episode_return_mean", "above": 10, "settings": {"level": 2}},
    {"metric": "game_peak/falls", "below": 1.5, "settings": {"level": 3, "wind": True}},
]


class FakeController:
    """Carries out lessons, as a run goes on with them."""

    def __init__(self, **more: Any) -> None:
        self.config = planned(**more)
        self.told: list[tuple[int, dict[str, Any]]] = []
        self.fails = False

    def begin_lesson(self, number: int, settings: Mapping[str, Any]) -> None:
        if self.fails:
            raise ConfigError("the disk is full")
        self.told.append((number, dict(settings)))
        counted = self.config.lessons.model_copy(update={"begun": number})
        self.config = self.config.model_copy(update={"lessons": counted})


def planned(plan: Any = PLAN, **more: Any) -> Config:
    return config_from({"lessons.plan": plan, "lessons.min_episodes": 5} | more)


def look(lessons: Lessons, to: FakeController, episodes: int, **row: float) -> int:
    """How many lessons have begun after a row."""
    row = {name.replace("__", "/"): value for name, value in row.items()}
    lessons.look(to.config, row, episodes)
    return len(to.told)


def test_lessons_begin_one_after_the_other_when_their_metric_passes() -> None:
    to = FakeController()
    its = Lessons(to)  # type: ignore[arg-type]
    assert look(its, to, 9, episode_return_mean=9.9) == 0
    assert look(its, to, 9, episode_return_mean=math.nan) == 0
    assert look(its, to, 9) == 0
    assert look(its, to, 9, episode_return_mean=10.0, game_peak__falls=0.0) == 1
    assert look(its, to, 20, episode_return_mean=50.0, game_peak__falls=1.6) == 1
    assert look(its, to, 20, game_peak__falls=1.5) == 2
    assert to.told == [(1, {"level": 2}), (2, {"level": 3, "wind": True})]
    assert look(its, to, 99, episode_return_mean=50.0, game_peak__falls=0.0) == 2


def test_lesson_lasts_as_many_episodes_as_it_must() -> None:
    to = FakeController()
    its = Lessons(to)  # type: ignore[arg-type]
    good = {"episode_return_mean": 50.0, "game_peak__falls": 0.0}
    assert look(its, to, 4, **good) == 0
    assert look(its, to, 5, **good) == 1
    assert look(its, to, 9, **good) == 1
    assert look(its, to, 10, **good) == 2


def test_run_that_is_resumed_goes_on_with_its_lesson() -> None:
    to = FakeController(**{"lessons.begun": 1})
    assert look(Lessons(to), to, 9, episode_return_mean=50.0, game_peak__falls=1.0) == 1  # type: ignore[arg-type]
    assert to.told == [(2, PLAN[1]["settings"])]


def test_lesson_that_cannot_be_recorded_is_tried_again() -> None:
    to = FakeController()
    its = Lessons(to)  # type: ignore[arg-type]
    to.fails = True
    assert look(its, to, 9, episode_return_mean=50.0) == 0
    to.fails = False
    assert look(its, to, 9, episode_return_mean=50.0) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"above": None}, "one of above and below"),
        ({"below": 1}, "one of above and below"),
        ({"above": math.inf}, "one of above and below"),
        ({"above": True}, "one of above and below"),
        ({"metric": 3}, "expected metric"),
        ({"settings": {}}, "expected settings"),
        ({"settings": {"understudy.x": 1}}, "kept for the protocol"),
        ({"settings": {"x": "y" * 2000}}, "x"),
        ({"levels": 3}, "got levels"),
    ],
)
def test_plan_that_means_nothing_is_refused(change: dict[str, Any], said: str) -> None:
    lesson = {key: value for key, value in (PLAN[0] | change).items() if value is not None}
    with pytest.raises(ConfigError, match=said):
        planned([lesson])


def test_metric_that_there_is_not_is_refused_with_the_one_that_was_meant() -> None:
    lessons.check(planned())
    with pytest.raises(ConfigError, match="did you mean episode_return_mean"):
        lessons.check(planned([PLAN[0] | {"metric": "episode_return_means"}]))
