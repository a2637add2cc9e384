"""Games that evaluate a student and its teacher while training games play, or wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from server.play.game_messages import GameEpisode, GameOptions
from server.play.games import Games
from understudy_client.experts import find

CLIENTS = 4
"""Games of a role at a time."""

EPISODES = 20

MOST_EPISODES = 100
"""More than the server takes for one evaluation (server.run.evaluations.MOST) would be several."""

SEED = 1_000_000
"""Episode i of every evaluation is reset with seed + i, of the network and of the expert."""

Wait = Callable[[], None]
"""Called again and again while there is nothing to do but wait. What it raises ends that."""


@dataclass(frozen=True)
class EvaluatedEpisodes:
    """The episodes of an evaluation."""

    student: Sequence[GameEpisode]
    teacher: Sequence[GameEpisode]
    """None where the expert was not asked, or where the environment has none."""
    frames: int
    """That the training games had played."""
    missing: int
    """Episodes of the network that were asked for and not played: their games are given up, or
    ended with one that the server's limit cut."""


class Evaluator:
    """The network alone and the expert alone, whenever asked. The games start once and wait between
    evaluations, not connected. Use it as a context manager."""

    def __init__(self, options: GameOptions, wait: Wait, *, seed: int = SEED) -> None:
        """`options`: those of the training games."""
        options = replace(
            options, episodes=None, frames=None, log_dir=None, seed=seed, rounds=True, show=None
        )
        self._wait = wait
        options = replace(options, evaluates=False)
        self._student = Games(replace(options, role="eval", expert="none", weaken=0.0))
        self._teacher: Games | None = None
        if find(options.env, options.expert) is not None:
            self._teacher = Games(replace(options, role="eval_expert"))

    @property
    def players(self) -> list[Games]:
        """The games of the network, and those of the expert where there are any."""
        return [self._student] if self._teacher is None else [self._student, self._teacher]

    @property
    def troubles(self) -> list[str]:
        """What games say that are without the server now."""
        return [text for games in self.players for text in games.troubles]

    def start(self, episodes: int = EPISODES) -> None:
        """Start as many games as `episodes` can use."""
        for games in self.players:
            games.start(min(CLIENTS, episodes))

    def evaluate(self, training: Games, episodes: int, *, expert: bool) -> EvaluatedEpisodes:
        """Wait until all training games are held (or have ended), and play so many episodes of the
        network, and of the expert where asked, all from the same seeds. They stay held."""
        while not training.all_said("held"):
            self._wait()
        playing = [self._student]
        if expert and self._teacher is not None:
            playing.append(self._teacher)
        for games in playing:
            games.go(episodes)
        # None leaves before all are through: for the server it is one evaluation.
        for word, order in (("done", Games.leave), ("left", None)):
            while not all(games.all_said(word) for games in playing):
                self._wait()
            for games in playing:
                if order is not None:
                    order(games)
        student, *teacher = (games.episodes() for games in playing)
        missing = episodes - len(student)
        return EvaluatedEpisodes(student, teacher[0] if teacher else [], training.frames, missing)

    def dismiss_expert(self) -> None:
        """The expert is not evaluated again: its games end."""
        if self._teacher is not None:
            self._teacher.stop()

    def stop(self) -> None:
        for games in self.players:
            games.stop()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
