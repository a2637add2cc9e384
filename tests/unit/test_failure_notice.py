"""What is printed of games that fail."""

from __future__ import annotations

from typing import Any, cast

import pytest

from server.play.failure_notice import FailureNotice
from server.play.game_messages import GameFailure, GameOptions
from server.play.games import Games


class FakeGames:
    options = GameOptions("Toy-v0", "127.0.0.1", 7777)

    def __init__(self, *failures: GameFailure) -> None:
        self.failures = list(failures)


@pytest.mark.parametrize(
    ("failures", "end"),
    [
        ([GameFailure(0, "it broke")], "failed once: it broke"),
        ([GameFailure(0, "it broke", again_s=0.5)], "failed once, begun again: it broke"),
        (
            [GameFailure(0, "it broke", again_s=0.5), GameFailure(0, "it broke", given_up=True)],
            "failed 2 times, given up: it broke (2 times)",
        ),
        (
            [GameFailure(0, "it broke", again_s=0.5), GameFailure(0, "it broke")],
            "failed 2 times, begun again: it broke (2 times)",
        ),
    ],
)
def test_summary_says_begun_again_only_of_games_that_were(
    capsys: Any, failures: list[GameFailure], end: str
) -> None:
    FailureNotice("play").summary(cast(Games, FakeGames(*failures)))
    assert capsys.readouterr().err == f"understudy play: game 0 {end}\n"
