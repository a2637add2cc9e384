"""Settings that games are told: `server.settings`, and the evaluation that was asked for."""

from __future__ import annotations

from typing import Any

from protocol.messages import EVALUATE


class GameSettings:
    """What is told with WELCOME, and what of it is news to games that play."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._evaluation = 0

    @property
    def current(self) -> dict[str, Any]:
        """All of them, as they are now."""
        evaluation = {EVALUATE: self._evaluation} if self._evaluation else {}
        return self._settings | evaluation

    def change(self, settings: dict[str, Any]) -> dict[str, Any]:
        """`server.settings` is this from now on. Returns what is new or different."""
        before = self.current
        self._settings = settings
        return self._news(before)

    def ask_evaluation(self, number: int) -> dict[str, Any]:
        """Games are to evaluate (server.ipc.messages.Evaluate). Returns what is new."""
        before = self.current
        self._evaluation = number
        return self._news(before)

    def _news(self, before: dict[str, Any]) -> dict[str, Any]:
        now = self.current
        return {name: now[name] for name in now if name not in before or before[name] != now[name]}
