"""What one role has played of an evaluation that is going on, and what it lacks."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from server.ipc.messages import LEFT, LIMIT, FinishedEpisode

KEPT = 1000
"""Returns of a part that are kept, and of its cut episodes: a game may announce a million."""


@dataclass(slots=True)
class EvaluationPart:
    """The network's part, or the expert's."""

    returns: list[float] = field(default_factory=list)
    """Of episodes that ended by themselves, the first KEPT."""
    cut: list[float] = field(default_factory=list)
    """Returns so far of those that did not, the first KEPT."""
    ended: int = 0
    """Episodes that ended by themselves."""
    total: float = 0.0
    """Of all their returns."""
    announced: int = 0
    """Episodes that its games announced, together."""
    missing: int = 0
    """Of those, that games left without playing and nobody has taken on: they may come back."""
    given_up: int = 0
    """The same of games that said BYE."""
    limited: int = 0
    """Episodes that a limit has cut."""
    broken: int = 0
    """Games that announced nothing and left in the middle of an episode."""
    left_out: int = 0
    """Complete episodes beyond what their game had announced."""
    frames: int = 0
    """Of its complete episodes."""
    filled_frames: int = 0
    """Of those, for which an expert recommended nothing."""

    @property
    def accounted(self) -> int:
        """Episodes that were played: to their end, or to a limit."""
        return self.ended + self.limited

    @property
    def anything(self) -> bool:
        """There is something to tell."""
        return bool(self.returns or self.cut or self.why)

    @property
    def mean(self) -> float | None:
        """Of the returns; None without any."""
        if self.ended > len(self.returns):
            return self.total / self.ended
        return statistics.fmean(self.returns) if self.returns else None

    @property
    def beyond(self) -> int:
        """How many episodes ended by themselves, where not all of their returns are kept; else
        0."""
        return self.ended if self.ended > len(self.returns) else 0

    @property
    def filled(self) -> float | None:
        """The share of frames that were filled; None without an episode."""
        return self.filled_frames / self.frames if self.frames else None

    @property
    def progress(self) -> str:
        """How far it is, in words."""
        of = f" of {self.announced}" if self.announced else ""
        cut = f" ({self.limited} cut)" if self.limited else ""
        return f"{self.ended}{of} episodes{cut}"

    @property
    def why(self) -> str:
        """What it lacks, in words; empty if it is complete."""
        reasons = []
        if self.limited:
            reasons.append(f"{self.limited} episodes cut by the limit")
        if missing := self.missing + self.given_up:
            reasons.append(f"{missing} of {self.announced} announced episodes not played")
        if self.broken:
            reasons.append(f"{self.broken} games left in the middle of an episode")
        return ", ".join(reasons)

    def announce(self, episodes: int) -> None:
        """A game has come that will play so many. What others left without playing it takes on: a
        game that comes back announces what is left."""
        taken_on = min(episodes, self.missing)
        self.missing -= taken_on
        self.announced += episodes - taken_on

    def leave(self, unplayed: int, *, bye: bool) -> None:
        """A game has gone that had announced so many episodes more."""
        if bye:
            self.given_up += max(0, unplayed)
        else:
            self.missing += max(0, unplayed)

    def add(self, episode: FinishedEpisode) -> bool:
        """Count an episode; whether it was played, to its end or to a limit."""
        if episode.cut:
            if len(self.cut) < KEPT:
                self.cut.append(episode.episode_return)
            self.limited += episode.cut == LIMIT
            return episode.cut != LEFT
        if self.ended < KEPT:
            self.returns.append(episode.episode_return)
        self.ended += 1
        self.total += episode.episode_return
        self.frames += episode.length
        self.filled_frames += episode.filled
        return True
