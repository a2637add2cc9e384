"""Evaluation of a game's network, and of its expert, over connections of their own.

    def play(client, seed):                     # the loop that trains, for one episode
        obs, reward, status = game.reset(seed), 0.0, 0
        while True:
            answer = client.act(obs, reward, status, expert=game.recommend())
            if status:
                return
            obs, reward, status = game.step(answer.action)

    found = client.evaluate(play, episodes=20, expert=True)
    print(found.network.mean, found.expert.mean)

`Client.evaluate` is the way in. The server stores nothing of it, takes what is announced and played
for one evaluation, and keeps the network if it was the best so far.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from understudy_client.errors import Reconnected
from understudy_client.wire import EPISODE_LIMIT, RUNNING, Answer

if TYPE_CHECKING:
    from understudy_client.client import Client
    from understudy_client.spec import Part

SEED = 1_000_000
"""Episode i is played with seed + i."""

PING_S = 20.0
"""How often the connection that waits lets the server know that it is there."""

PlayEpisode = Callable[["EvaluatedClient", int], object]
"""Plays one episode on a client, with a seed."""


@dataclass(frozen=True, slots=True)
class EvaluatedEpisode:
    """One episode of evaluation."""

    return_: float
    """The sum of its rewards, of all components."""
    length: int
    """Actions taken."""
    cut: bool = False
    """The server's limit cut it: it did not end by itself."""


@dataclass(frozen=True, slots=True)
class EvaluatedPlayer:
    """What the network alone has played, or the expert alone."""

    episodes: Sequence[EvaluatedEpisode] = ()

    @property
    def returns(self) -> list[float]:
        """Of the episodes that ended by themselves."""
        return [episode.return_ for episode in self.episodes if not episode.cut]

    @property
    def cut(self) -> int:
        """Episodes that did not."""
        return sum(episode.cut for episode in self.episodes)

    @property
    def mean(self) -> float | None:
        """Of the returns; None without any."""
        return statistics.fmean(self.returns) if self.returns else None


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """An evaluation."""

    network: EvaluatedPlayer = field(default_factory=EvaluatedPlayer)
    expert: EvaluatedPlayer = field(default_factory=EvaluatedPlayer)
    """Without episodes where it was not asked."""


class EvaluatedClient:
    """What `play` gets: `act` as of `Client`; the return of the episode is added up."""

    def __init__(self, client: Client, between: Callable[[], None]) -> None:
        """`between`: called with each frame."""
        self._client = client
        self._between = between
        self.return_ = 0.0
        self.length = 0
        self.over = False
        """The episode has ended: by itself, or `cut` by the server's limit."""
        self.cut = False
        self._begun = False
        self.spec = client.spec

    @property
    def role(self) -> str:
        """`eval` or `eval_expert`."""
        return self._client.role

    @property
    def settings(self) -> dict[str, object]:
        """What the operator wants of the game."""
        return self._client.settings

    def begin(self) -> None:
        """A new episode."""
        self.return_, self.length, self._begun = 0.0, 0, False
        self.over = self.cut = False

    def act(
        self,
        obs: object,
        reward: float | Sequence[float] = 0.0,
        status: int = RUNNING,
        expert: Sequence[Part] | None = None,
        took: tuple[Sequence[Part], int] | None = None,
    ) -> Answer:
        """See `Client.act`. Errors: ValueError for a frame behind the episode's last one."""
        if self.over:
            raise ValueError(
                "expected the end of `play` behind the episode's last frame, got another frame"
            )
        self._between()
        try:
            answer = self._client.act(obs, reward, status, expert, took)  # type: ignore[arg-type]
        except Reconnected as lost:
            if lost.code == EPISODE_LIMIT and self.length:
                self.over = self.cut = True
            else:
                self.begin()
            raise
        if self._begun:
            self.return_ += sum(reward) if isinstance(reward, list | tuple) else float(reward)  # type: ignore[arg-type]
        self._begun = True
        self.length += answer.action is not None
        self.over = status != RUNNING
        return answer


def evaluate(
    client: Client, play: PlayEpisode, episodes: int, *, expert: bool, seed: int
) -> EvaluationResult:
    """See `Client.evaluate`."""
    if episodes < 1:
        raise ValueError(f"episodes: expected at least 1, got {episodes}")
    pinged = time.monotonic()

    def between() -> None:
        """Keep the training connection from being idle."""
        nonlocal pinged
        if time.monotonic() - pinged > PING_S:
            pinged = time.monotonic()
            with contextlib.suppress(Reconnected):  # no episode is under way on it
                client.ping()

    # Both connect before either plays: to the server it is one evaluation.
    roles = ("eval", "eval_expert") if expert else ("eval",)
    others: list[Client] = []
    try:
        for role in roles:
            others.append(client.sibling(role, episodes))
        played = [_play_all(other, play, episodes, seed, between) for other in others]
    finally:
        for other in others:
            other.close()
    return EvaluationResult(*played)


def _play_all(
    client: Client, play: PlayEpisode, episodes: int, seed: int, between: Callable[[], None]
) -> EvaluatedPlayer:
    """The episodes of one role. One that is cut by a lost connection is played again."""
    player = EvaluatedClient(client, between)
    found: list[EvaluatedEpisode] = []
    while len(found) < episodes:
        player.begin()
        try:
            play(player, seed + len(found))
        except Reconnected:
            if not player.over:
                continue  # it is played again
        if not player.over:
            raise ValueError(
                "expected `play` to send the last frame of its episode (status 1 or 2), and it "
                "returned before"
            )
        found.append(EvaluatedEpisode(player.return_, player.length, player.cut))
    return EvaluatedPlayer(tuple(found))
