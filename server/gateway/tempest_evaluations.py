"""Who of the older clients for Tempest plays an evaluation, and when.

They know no roles and cannot be asked. So the server has one of them play its next whole episodes
by the network alone, or by the expert alone, at intervals of stored frames, and says of itself how
many they will be.
"""

from __future__ import annotations

from typing import NamedTuple

from config.models import TempestConfig

TRAIN, STUDENT, TEACHER = "train", "eval", "eval_expert"
"""Roles."""


class Turn(NamedTuple):
    """An episode that begins."""

    role: str
    episodes: int | None = None
    """Of the evaluation that it belongs to."""


class _Player:
    """A client that plays an evaluation."""

    def __init__(self, who: object, episodes: int) -> None:
        self.who, self.episodes, self.left = who, episodes, episodes


class TempestEvaluations:
    """The evaluations of a gateway's older clients: of each role one at a time."""

    def __init__(self) -> None:
        self._players: dict[str, _Player] = {}
        self._intervals: dict[str, int] = {}
        """The last interval in which each role was evaluated, or in which it was first asked."""

    def begin(self, who: object, config: TempestConfig, frames: int, *, expert: bool) -> Turn:
        """The episode that this client begins. `frames`: stored ones of the run; `expert`: the
        server has one (expert.plugin)."""
        for role, player in self._players.items():
            if player.who is who:
                if player.left:
                    player.left -= 1
                    return Turn(role, player.episodes)
                # One in training comes between: evaluations stay apart.
                del self._players[role]
                return Turn(TRAIN)
        turn = Turn(TRAIN)
        for role, every in (
            (STUDENT, config.eval_every),
            (TEACHER, config.eval_expert_every if expert else None),
        ):
            if every is None:
                self._intervals.pop(role, None)
                continue
            now = frames // every
            last = self._intervals.setdefault(role, now)
            if now != last and role not in self._players and turn.role == TRAIN:
                self._intervals[role] = now
                self._players[role] = player = _Player(who, config.eval_episodes)
                player.left -= 1
                turn = Turn(role, player.episodes)
        return turn

    def gone(self, who: object) -> None:
        """This client has left; what it should have played is not made up for."""
        self._players = {r: player for r, player in self._players.items() if player.who is not who}
