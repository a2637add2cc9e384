"""What `understudy serve` says that it is doing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from server.commands.serve import _doing

QUIET = {"loading": "", "degraded": "", "evaluation_note": "", "evaluating": False}


@pytest.mark.parametrize(
    ("status", "games", "slots", "said"),
    [
        ({}, [], 0.0, "waiting for a game"),
        ({}, ["a game"], 0.0, "playing"),
        ({}, [], 1.0, "waiting for a game"),
        ({"evaluating": True}, [], 1.0, "evaluating"),
        ({"loading": "3 of 7 MB"}, ["a game"], 1.0, "the run is being loaded"),
    ],
)
def test_serve_plays_while_a_game_is_connected_whatever_the_newest_row_says(
    status: dict[str, Any], games: list[str], slots: float, said: str
) -> None:
    """A row is as old as an interval."""
    supervisor = SimpleNamespace(
        status=SimpleNamespace(**QUIET | status), training_games=games, row={"slots": slots}
    )
    assert _doing(cast(Any, supervisor), live=False) == said
