"""How many frames the run had, as all of its learners count them."""

from __future__ import annotations

import torch

from server.trainer.ranked_trainer import base_of


def told(*ranks: tuple[int, int, int, int, int]) -> torch.Tensor:
    return torch.tensor(ranks, dtype=torch.float64)


def test_frames_are_those_in_all_journals_whoever_was_made_anew() -> None:
    fresh = told((30, 20, 0, 0, 30), (30, 30, 0, 0, 30))
    assert base_of(fresh) == 50, "a start"
    go_on = told((90, 60, 40, 0, 50), (90, 50, 20, 0, 50))
    assert base_of(go_on) == 50, "both go on: the base stays"
    one_lost = told((100, 60, 40, 0, 50), (100, 50, 0, 0, 100))
    assert base_of(one_lost) + 40 == 110, "the one that goes on has its steps in stored and journal"
    without_games = told((100, 110, 60, 0, 50), (100, 0, 0, 0, 50))
    assert base_of(without_games) == 50


def test_checkpoint_that_is_ahead_of_the_journals_counts() -> None:
    assert base_of(told((80, 20, 0, 0, 80), (80, 30, 0, 0, 80))) == 80


def test_base_stays_where_rows_are_not_kept() -> None:
    assert base_of(told((45, 0, 40, 0, 7), (45, 0, 20, 0, 7))) == 7
