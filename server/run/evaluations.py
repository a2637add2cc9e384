"""What the games of evaluation found: the network alone and the expert alone, side by side.

An *evaluation* is what the games with the roles eval and eval_expert play from the first one's
coming until the last one has gone. Games that never go have one for every `MOST` episodes.

Pure: reports come in, evaluations come out. `server.supervisor.evaluation_recorder` keeps
them in the run's folder.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from server.ipc.messages import FinishedEpisode

STUDENT, TEACHER = "eval", "eval_expert"
"""The roles of their games."""

MOST = 100
"""Episodes of a role in an evaluation, at most."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation: a line of `evaluations.jsonl`."""

    time: float
    """When it ended, seconds since 1970."""
    frames: int
    """Stored frames of the run when it began."""
    versions: tuple[int, int]
    """The weights that the gateways played with, at its beginning and at its end."""
    returns: tuple[float, ...]
    """Of the network's episodes, as the gateways reported them; none where it did not play."""
    mean: float | None
    """Of those."""
    expert_returns: tuple[float, ...]
    """The same of the expert."""
    expert_mean: float | None
    """The expert's newest mean, of this evaluation or of an earlier one."""
    partial: bool
    """The network has less than half as many episodes as in an earlier one: this one was broken
    off, and nothing goes by it."""

    def line(self) -> dict[str, Any]:
        """It as plain data."""
        return asdict(self)

    def text(self) -> str:
        """It for the log."""
        student = teacher = ""
        if self.mean is not None:
            student = f"network {self.mean:.1f} over {len(self.returns)} episodes"
            student += " (broken off)" if self.partial else ""
        if self.expert_mean is not None:
            teacher = f"expert {self.expert_mean:.1f}"
            if self.expert_returns:
                teacher += f" over {len(self.expert_returns)} episodes"
        both = ", ".join(part for part in (student, teacher) if part)
        return f"evaluation at frame {self.frames}: {both}"


class Evaluations:
    """The evaluations of a run, and the one that is going on."""

    def __init__(self, earlier: Iterable[Evaluation] = ()) -> None:
        """`earlier`: those of the run so far, the oldest first."""
        self.mean = math.nan
        """Of the student's newest evaluation; NaN before there is one."""
        self.first = math.nan
        """Of its first one."""
        self.best = math.nan
        """Of its best one."""
        self.episodes = math.nan
        """Of the newest."""
        self.frames = math.nan
        """Of the run, at the newest."""
        self.expert_mean = math.nan
        self.expert_episodes = math.nan
        self._largest = {STUDENT: 0, TEACHER: 0}
        self._returns: dict[str, list[float]] = {STUDENT: [], TEACHER: []}
        self._open = False
        self._playing = 0
        self._frames = 0
        self._versions = (0, 0)
        for one in earlier:
            self._count(STUDENT, one.returns, one.frames)
            self._count(TEACHER, one.expert_returns, one.frames)

    @property
    def over(self) -> bool:
        """All games of the evaluation have gone, as far as the gateways have told: it can be
        closed. Of several gateways each must have been heard."""
        return self._open and not self._playing

    @property
    def under_way(self) -> bool:
        """An evaluation is going on."""
        return self._open

    def report(
        self,
        playing: int,
        episodes: Iterable[FinishedEpisode],
        frames: int,
        version: int,
        now: float,
    ) -> list[Evaluation]:
        """A gateway reported. Returns evaluations that have reached their most episodes.

        `playing`: games of evaluation in play now, of all gateways; `episodes`: those that ended
        since the last report, of any role; `frames`: stored frames of the run; `version`: the
        weights that the gateway plays with; `now`: seconds since 1970.
        """
        found = []
        ended = [episode for episode in episodes if episode.role in self._returns]
        if (playing or ended) and not self._open:
            self._open, self._frames, self._versions = True, frames, (version, version)
        if not self._open:
            return []
        self._playing = playing
        self._versions = (self._versions[0], version)
        for episode in ended:
            returns = self._returns[episode.role]
            if len(returns) == MOST:
                found.append(self._close([episode.role], now))
                self._frames, self._versions = frames, (version, version)
            returns.append(episode.episode_return)
        return found

    def close(self, now: float) -> list[Evaluation]:
        """The evaluation is `over`; it, unless no episode was completed."""
        self._open = False
        return [self._close([STUDENT, TEACHER], now)] if any(self._returns.values()) else []

    def numbers(self) -> dict[str, float]:
        """For a row of metrics; NaN where there is none yet."""
        return {
            "eval_return_mean": self.mean,
            "eval_episodes": self.episodes,
            "eval_frames": self.frames,
            "eval_return_best": self.best,
            "expert_return_mean": self.expert_mean,
            "expert_episodes": self.expert_episodes,
        }

    def _close(self, roles: list[str], now: float) -> Evaluation:
        """What these roles have played so far is an evaluation."""
        returns = {role: tuple(self._returns[role]) for role in roles}
        for role in roles:
            self._returns[role].clear()
        student, teacher = returns.get(STUDENT, ()), returns.get(TEACHER, ())
        counted = {role: self._count(role, returns[role], self._frames) for role in roles}
        return Evaluation(
            now,
            self._frames,
            self._versions,
            student,
            statistics.fmean(student) if student else None,
            teacher,
            None if math.isnan(self.expert_mean) else self.expert_mean,
            bool(student) and not counted[STUDENT],
        )

    def _count(self, role: str, returns: Sequence[float], frames: int) -> bool:
        """Take an evaluation into account, unless it is partial; whether it was."""
        n = len(returns)
        if not n or 2 * n < self._largest[role]:
            return False
        self._largest[role] = max(self._largest[role], n)
        mean = statistics.fmean(returns)
        if role == TEACHER:
            self.expert_mean, self.expert_episodes = mean, float(n)
            return True
        self.mean, self.episodes, self.frames = mean, float(n), float(frames)
        self.first = mean if math.isnan(self.first) else self.first
        self.best = mean if math.isnan(self.best) else max(self.best, mean)
        return True
