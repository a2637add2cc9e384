"""The update budget: what is due, and how far games may play."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.update_budget import NO_LIMIT, UpdateBudget, updates_due
from config.models import TrainerConfig


class BudgetWorld:
    """A budget with a learner that makes updates when it is told to."""

    def __init__(
        self, *, not_owed: int = 0, made: int = 0, pretrain: int = 0, **settings: Any
    ) -> None:
        self.settings = TrainerConfig(**settings)
        self.replay: Any = SimpleNamespace(can_sample=True)
        self.learner: Any = SimpleNamespace(updates=made)
        self.budget = UpdateBudget(self.settings, self.replay, self.learner, not_owed, pretrain)

    def learn(self, frames: int) -> None:
        """Make what so many stored steps make due."""
        self.learner.updates += max(0, self.budget.due(frames, frames))


RATIOS = st.one_of(
    st.floats(1e-4, 200.0), st.sampled_from([0.1, 0.25, 0.3, 1 / 3, 0.026, 1.0, 4.0, 1e6])
)


@given(
    ratio=RATIOS,
    limit=st.integers(1, 10_000),
    least=st.integers(1, 10**6),
    not_owed=st.integers(-(10**6), 10**6),
    made=st.integers(0, 10**7),
)
def test_allowed_is_the_first_frame_at_which_training_is_behind_by_the_limit(
    ratio: float, limit: int, least: int, not_owed: int, made: int
) -> None:
    world = BudgetWorld(
        replay_ratio=ratio, max_lag_updates=limit, min_steps=least, not_owed=not_owed
    )
    world.learner.updates = made
    allowed = world.budget.allowed(0)
    assert world.budget.behind(allowed) >= limit
    assert world.budget.behind(allowed - 1) < limit
    if allowed > not_owed + least:
        due = updates_due(world.settings, allowed - not_owed, made)
        assert world.budget.behind(allowed) == due


@given(ratio=RATIOS, limit=st.integers(1, 1000), slots=st.integers(1, 5000))
def test_games_that_play_as_far_as_they_may_never_wait_for_ever(
    ratio: float, limit: int, slots: int
) -> None:
    """All games answer one frame a turn. Where those that are open are beyond the limit alone, the
    updates that the games wait for are made all the same."""
    world = BudgetWorld(replay_ratio=ratio, max_lag_updates=limit, min_steps=1)
    stored, answered = 0, slots
    for _ in range(5):
        world.learner.updates += max(0, world.budget.due(stored, answered))
        assert answered < world.budget.allowed(answered)
        stored, answered = answered, answered + slots
        assert world.budget.behind(answered) <= limit + math.ceil(slots * ratio)


def test_updates_due_follow_the_stored_steps_while_few_frames_are_open() -> None:
    world = BudgetWorld(replay_ratio=0.5, max_lag_updates=50, min_steps=100)
    assert world.budget.due(99, 107) <= 0
    assert world.budget.due(110, 118) == 5
    assert world.budget.behind(118) == 9
    world.learn(110)
    assert world.budget.due(110, 118) == 0
    assert world.budget.allowed(118) == 100 + (5 + 50) * 2


@pytest.mark.parametrize(
    ("change", "paused"),
    [({"max_lag_updates": None}, False), ({"enabled": False}, False), ({}, True)],
)
def test_nothing_limits_games_that_have_nothing_to_wait_for(
    change: dict[str, Any], paused: bool
) -> None:
    world = BudgetWorld(**{"min_steps": 10} | change)
    if paused:
        world.budget.pause(True, 0)
    assert world.budget.allowed(10_000) == NO_LIMIT


def test_games_play_on_turn_by_turn_while_there_is_nothing_to_learn_from() -> None:
    world = BudgetWorld(min_steps=10, max_lag_updates=5, replay_ratio=1.0)
    world.replay.can_sample = False
    assert [world.budget.allowed(n) for n in (0, 14, 15, 4096)] == [15, 15, 16, 4097]
    world.replay.can_sample = True
    assert world.budget.allowed(4096) == 15


def test_pretraining_limits_nobody_and_makes_its_updates() -> None:
    world = BudgetWorld(pretrain=7, made=3)
    assert world.budget.allowed(0) == NO_LIMIT
    assert (world.budget.due(0, 0), world.budget.behind(0)) == (7, 7)
    world.learner.updates += 7
    assert world.budget.due(0, 0) == 0


def test_pause_forgives_what_is_answered_meanwhile_and_games_go_on_as_before() -> None:
    world = BudgetWorld(replay_ratio=0.25, max_lag_updates=50, min_steps=100)
    world.learn(500)
    ahead = world.budget.allowed(500) - 500
    world.budget.pause(True, 520)
    world.budget.pause(True, 700)  # told twice is told once
    assert world.budget.behind(10_000) == 0
    world.budget.pause(False, 10_520)
    assert world.budget.behind(10_520) == 5, "those of before the pause"
    assert world.budget.allowed(10_520) - 10_500 == ahead


def test_pause_before_the_first_updates_owes_nothing_for_it() -> None:
    world = BudgetWorld(replay_ratio=1.0, max_lag_updates=50, min_steps=100)
    world.budget.pause(True, 10)
    world.budget.pause(False, 5000)
    assert world.budget.behind(5000) == 0
    assert world.budget.behind(5001) == 1


def test_roll_back_makes_no_update_due_and_moves_no_limit() -> None:
    world = BudgetWorld(replay_ratio=0.5, max_lag_updates=10, min_steps=10)
    world.learn(110)
    allowed = world.budget.allowed(110)
    world.learner.updates -= 30
    world.budget.rolled_back(-30)
    assert (world.budget.behind(110), world.budget.allowed(110)) == (0, allowed)


@given(
    first=st.floats(0.01, 10.0),
    second=st.floats(0.01, 10.0),
    before=st.integers(0, 5000),
    made=st.integers(0, 5000),
    more=st.integers(0, 5000),
)
def test_another_ratio_is_no_debt_and_no_credit_for_frames_before(
    first: float, second: float, before: int, made: int, more: int
) -> None:
    assume(first != second)
    world = BudgetWorld(replay_ratio=first, max_lag_updates=10, min_steps=1000)
    world.learner.updates = made
    owed = world.budget._balance(before)
    world.budget.change(TrainerConfig(replay_ratio=second, min_steps=1000), before)
    if before <= 1000:
        new = BudgetWorld(replay_ratio=second, min_steps=1000)
        new.learner.updates = made
        assert world.budget._balance(before + more) == new.budget._balance(before + more)
    else:
        assert world.budget._balance(before) == owed
        assert world.budget._balance(before + more) == owed + math.floor(more * second)


def test_another_limit_holds_at_once() -> None:
    world = BudgetWorld(replay_ratio=0.5, max_lag_updates=10, min_steps=10)
    world.learn(110)
    assert world.budget.allowed(110) == 130
    world.budget.change(TrainerConfig(replay_ratio=0.5, max_lag_updates=30, min_steps=10), 120)
    assert world.budget.allowed(120) == 170
