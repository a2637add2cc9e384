"""A change of settings for which there is no memory."""

from __future__ import annotations

from typing import Any

import pytest

from config.load import ConfigError
from config.models import Config
from protocol.spaces import GameSpec, Observation
from server.control.memory_check import check_memory
from server.supervisor import memory_budget
from tests.support.worlds import SPEC


def with_batch(size: int, limit: int | None = 2**31) -> Config:
    values = {"learner": {"batch_size": size}, "server": {"max_game_bytes": limit}}
    return Config.model_validate(values)


@pytest.mark.parametrize("limit", [2**31, None])
def test_batch_beyond_the_memory_is_refused(limit: int | None) -> None:
    with pytest.raises(ConfigError, match=r"^learner\.batch_size: expected .* nothing was changed"):
        check_memory(SPEC, with_batch(256, limit), with_batch(2**40, limit))


def test_games_and_changes_may_take_the_same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.game_memory.memory_bytes", lambda: 1000)
    assert "at most 1,000 bytes" in (memory_budget.refusal(SPEC, with_batch(256, None)) or "")
    with pytest.raises(ConfigError, match="at most 1,000 bytes"):
        check_memory(SPEC, with_batch(256, None), with_batch(1024, None))


def test_batch_that_fits_and_a_run_without_a_game_are_let_through() -> None:
    check_memory(SPEC, with_batch(256), with_batch(1024))
    check_memory(None, with_batch(256), with_batch(2**40))


def test_run_that_is_beyond_the_limit_already_may_become_smaller() -> None:
    check_memory(SPEC, with_batch(2**40), with_batch(2**39))
    check_memory(SPEC, with_batch(2**40), with_batch(2**40))


def test_replay_at_its_least_is_lowered_with_what_training_begins_with() -> None:
    big = GameSpec("big", Observation("uint8", (1000, 1000, 3)), SPEC.actions).checked()
    values: dict[str, Any] = {"server": {"max_game_bytes": 2**34}}
    config = Config.model_validate(values | {"trainer": {"min_steps": 100_000}})
    text = memory_budget.refusal(big, config) or ""
    assert "is that of replay.capacity_steps and trainer.min_steps (100,000), which" in text
    fewer = Config.model_validate(values)
    assert "min_steps" not in (memory_budget.refusal(big, fewer) or "")
