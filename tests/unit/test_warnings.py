"""Warnings: said once, then after growing pauses, shown while they hold, bounded."""

from __future__ import annotations

from itertools import pairwise

import pytest

from agent.finding import Finding
from server.monitor.warnings import (
    ENDED_S,
    FIRST_PAUSE_S,
    FORGOTTEN_S,
    LONGEST_PAUSE_S,
    MOST,
    SPELL_S,
    TEXT,
    Warnings,
    in_one_line,
)

FINDING = Finding("few_rows_dqn", "a few rows dominate: 5%", "lower advantage.beta")


class World:
    """Warnings with a clock that is set."""

    def __init__(self, every_s: float = 1.0) -> None:
        self.now = 100.0
        self.warnings = Warnings(every_s, lambda: self.now, lambda: self.now + 1e9)

    def ids(self) -> list[str]:
        return [each["id"] for each in self.warnings.holding()]


def test_warning_that_holds_is_logged_once_then_after_doubling_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world, at = World(), []
    for _ in range(6 * 3600):
        before = len(caplog.messages)
        world.warnings.note(FINDING)
        if len(caplog.messages) > before:
            at.append(world.now - 100.0)
        world.now += 1.0
    pauses = [later - earlier for earlier, later in pairwise(at)]
    assert at[0] == 0.0
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]
    assert caplog.messages[0] == "a few rows dominate: 5%; lower advantage.beta"


def test_warning_is_shown_with_since_last_and_times_until_it_has_ended() -> None:
    world = World()
    world.warnings.note(FINDING)
    for _ in range(3):  # spells of five seconds, with pauses between them
        for _ in range(5):
            world.now += 1.0
            world.warnings.note(FINDING._replace(text="a few rows dominate: 4%"))
        world.now += 2 * SPELL_S
    (shown,) = world.warnings.holding()
    assert shown == {
        "id": "few_rows_dqn",
        "text": "a few rows dominate: 4%",
        "cure": "lower advantage.beta",
        "since": 1e9 + 100.0,
        "last": 1e9 + world.now - 2 * SPELL_S,
        "times": 3,
    }
    world.now += ENDED_S
    assert world.warnings.holding() == []


def test_warning_that_comes_and_goes_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    for _ in range(24 * 60):
        world.warnings.note(FINDING)
        world.now += ENDED_S + 1.0
        assert world.ids() == []
    assert len(caplog.messages) < 7 + 24 * 60 * (ENDED_S + 1) / LONGEST_PAUSE_S + 1
    world.now += FORGOTTEN_S + 1.0
    world.warnings.holding()
    before = len(caplog.messages)
    world.warnings.note(FINDING)
    assert len(caplog.messages) == before + 1, "after hours of quiet it is news"
    world.now += FIRST_PAUSE_S
    world.warnings.note(FINDING)
    assert len(caplog.messages) == before + 2, "and its pauses are short again"


def test_warning_that_is_over_for_sure_is_news_when_it_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.warnings.note(FINDING)
    world.warnings.over("few_rows_dqn", "unknown")
    assert world.ids() == []
    world.warnings.note(FINDING)
    assert len(caplog.messages) == 2


def test_warning_found_at_long_intervals_holds_between_them() -> None:
    world = World(every_s=300.0)
    for _ in range(5):
        world.warnings.note(FINDING)
        world.now += 300.0
    (shown,) = world.warnings.holding()
    assert shown["times"] == 1


def test_warnings_are_bounded_in_number_and_length() -> None:
    world = World()
    for number in range(3 * MOST):
        world.now += 0.01
        world.warnings.note(Finding(f"{number}" + "x" * 1000, "t" * 10_000, "c" * 10_000))
    shown = world.warnings.holding()
    assert len(shown) == MOST
    assert shown[0]["id"].startswith(f"{3 * MOST - 1}x"), "the newest come first"
    assert len(shown[0]["text"]) == len(shown[0]["cure"]) == TEXT


def test_line_for_a_terminal_has_the_newest_and_how_many_more() -> None:
    world = World()
    assert in_one_line(world.warnings.holding()) == ""
    world.warnings.note(FINDING)
    line = "warning: a few rows dominate: 5%; lower advantage.beta"
    assert in_one_line(world.warnings.holding()) == line
    world.now += 1.0
    world.warnings.note(Finding("behind", "training is behind", "raise trainer.threads"))
    line = in_one_line(world.warnings.holding())
    assert line.startswith("warning: training is behind; raise trainer.threads (and 1 more")
