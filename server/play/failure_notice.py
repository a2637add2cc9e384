"""What is printed of games that fail: each failure at once, its traceback once, a summary at the
end."""

from __future__ import annotations

import re
import sys
from collections import Counter

from server.play.game_messages import GameFailure
from server.play.games import Games
from server.play.tries import WINDOW_S

_KINDS = {
    "train": "game",
    "eval": "evaluation game",
    "eval_expert": "expert's evaluation game",
    "play": "game",
}


class FailureNotice:
    """Prints failures of games to stderr, each once."""

    def __init__(self, command: str) -> None:
        """`command`: of understudy; every line of it begins with that."""
        self._command = command
        self._told: dict[int, int] = {}
        """How many of the failures of these games were told, by the games' identity."""
        self._texts: set[str] = set()

    def tell(self, *players: Games) -> None:
        """Print what is new of these games."""
        for games in players:
            told = self._told.get(id(games), 0)
            self._told[id(games)] = len(games.failures)
            for failure in games.failures[told : len(games.failures)]:
                self._tell(games, failure)

    def summary(self, *players: Games) -> None:
        """Print who failed how often and why; nothing where the one reason was told in full."""
        for games in players:
            by_game: dict[int, list[GameFailure]] = {}
            for failure in games.failures:
                by_game.setdefault(failure.client, []).append(failure)
            for client, failures in sorted(by_game.items()):
                if all(failure.permanent for failure in failures):
                    continue
                why = "; ".join(
                    text if n == 1 else f"{text} ({n} times)"
                    for text, n in Counter(one.message for one in failures).most_common()
                )
                end = ""
                if failures[-1].given_up:
                    end = ", given up"
                elif any(failure.again_s is not None for failure in failures):
                    end = ", begun again"
                self._print(f"{_name(games, client)} failed {_times(len(failures))}{end}: {why}")

    def _tell(self, games: Games, failure: GameFailure) -> None:
        if failure.permanent:
            # One server refuses all games for one reason: once is enough.
            if failure.message not in self._texts:
                self._print(failure.message)
            self._texts.add(failure.message)
            return
        text = f"{_name(games, failure.client)} of {games.options.env} failed: {failure.message}"
        if failure.again_s is not None:
            text += f"; it begins again in {failure.again_s:g} s"
        elif failure.given_up:
            text += "; it is given up"
            if restarts := games.options.restarts:
                text += f": it failed {_times(restarts + 1)} in {WINDOW_S / 60:g} minutes"
        # Addresses differ from process to process.
        known = re.sub("0x[0-9a-f]+", "", failure.traceback)
        if known and known in self._texts:
            text += " (traceback as above)"
        elif known:
            self._texts.add(known)
            text += f"\n{failure.traceback.rstrip()}"
        self._print(text)

    def _print(self, text: str) -> None:
        print(f"understudy {self._command}: {text}", file=sys.stderr, flush=True)


def _name(games: Games, client: int) -> str:
    return f"{_KINDS[games.options.role] if games.options.rounds else 'game'} {client}"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"
