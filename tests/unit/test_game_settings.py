from __future__ import annotations

from protocol.messages import EVALUATE
from server.gateway.game_settings import GameSettings


def test_current_equals_initial_settings() -> None:
    assert GameSettings({"level": 3}).current == {"level": 3}


def test_change_returns_only_new_or_different_settings() -> None:
    settings = GameSettings({"level": 3, "speed": 1})
    assert settings.change({"level": 4, "speed": 1, "lives": 5}) == {"level": 4, "lives": 5}
    assert settings.change({"level": 4, "speed": 1, "lives": 5}) == {}
    assert settings.current == {"level": 4, "speed": 1, "lives": 5}


def test_evaluation_request_stays_in_current_settings() -> None:
    settings = GameSettings({"level": 3})
    assert settings.ask_evaluation(7) == {EVALUATE: 7}
    assert settings.ask_evaluation(7) == {}
    assert settings.change({"level": 4}) == {"level": 4}
    assert settings.current == {"level": 4, EVALUATE: 7}
