from __future__ import annotations

from protocol.messages import EVALUATE
from server.gateway.game_settings import GameSettings


def test_settings_are_told_as_they_are() -> None:
    assert GameSettings({"level": 3}).current == {"level": 3}


def test_a_change_is_what_is_new_or_different() -> None:
    settings = GameSettings({"level": 3, "speed": 1})
    assert settings.change({"level": 4, "speed": 1, "lives": 5}) == {"level": 4, "lives": 5}
    assert settings.change({"level": 4, "speed": 1, "lives": 5}) == {}
    assert settings.current == {"level": 4, "speed": 1, "lives": 5}


def test_an_evaluation_that_was_asked_for_stays_beside_the_settings() -> None:
    settings = GameSettings({"level": 3})
    assert settings.ask_evaluation(7) == {EVALUATE: 7}
    assert settings.ask_evaluation(7) == {}
    assert settings.change({"level": 4}) == {"level": 4}
    assert settings.current == {"level": 4, EVALUATE: 7}
