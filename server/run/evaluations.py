"""What the games of evaluation found: the network alone and the expert alone, side by side.

An *evaluation* is what the games with the roles eval and eval_expert play from the first one's
coming until the last one has gone, or until all have played what they announced. It is complete if
nothing of it is missing:

    announced    as many episodes ended by themselves as the games said they would play
    not so       no game left in the middle of an episode (with several slots: of one in each)
    both         no episode was cut by a limit (`evaluation.*`)

What is not complete is *partial*: kept and shown with the reason, and nothing goes by it.

Pure: reports come in, evaluations come out. `server.supervisor.evaluation_recorder` keeps
them in the run's folder.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent.trust import Trust
from server.ipc.messages import EvaluationGame, FinishedEpisode
from server.run.evaluation import Evaluation
from server.run.evaluation_part import EvaluationPart

STUDENT, TEACHER = "eval", "eval_expert"
"""The roles of their games."""

NEWEST = 500
"""Evaluations before this start that are kept to be shown."""

MOST = 100
"""Episodes of a role in an evaluation, at most, where games do not announce more."""

RETURN_S = 15.0
"""A game that left without BYE before it had played what it announced may come back in this time:
it may have lost its connection, or had an episode cut."""

LINGER_S = 60.0
"""An evaluation whose games have played what they announced, and stay, is over after this time. It
is long enough for games that are still on their way to be part of it."""


class Moment(NamedTuple):
    """When a gateway reported, and what was so then."""

    time: float
    """Seconds since 1970."""
    clock: float
    """Seconds, of a clock that only rises."""
    frames: int
    """Stored frames of the run."""
    version: int
    """The weights that the gateway plays with."""


@dataclass(slots=True)
class _Game:
    """A connection that plays evaluation."""

    gateway: int
    now: EvaluationGame
    """As last reported."""
    announced: int | None
    """Episodes that it announced for this evaluation."""
    played: int = 0
    """Of those; one that a limit has cut is played."""
    left: int = 0
    """Slots that it left in the middle of an episode."""

    @property
    def done(self) -> bool:
        """It has played what it announced."""
        return self.announced is not None and self.played >= self.announced


class Evaluations:
    """The evaluations of a run, and the one that is going on."""

    def __init__(self, earlier: Iterable[Evaluation] = ()) -> None:
        """`earlier`: those of the run so far, the oldest first; read once, and not kept."""
        self.newest: deque[Evaluation] = deque(maxlen=NEWEST)
        """Of `earlier`, the newest."""
        self.mean = math.nan
        """Of the student's newest complete evaluation; NaN before there is one."""
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
        self._trust = Trust()
        self._expert_returns: Sequence[float] = ()
        """Of the expert's newest complete evaluation."""
        self._parts = {STUDENT: EvaluationPart(), TEACHER: EvaluationPart()}
        self._games: dict[int, _Game] = {}
        """By session."""
        self._open = False
        self._changed = 0.0
        """When a game last came, went, or ended an episode, by `Moment.clock`."""
        self._frames = 0
        self._versions = (0, 0)
        for one in earlier:
            self.newest.append(one)
            if one.expert_mean is not None and one.expert_counts:
                self._count_teacher(one.expert_mean, one.expert_played, one.expert_returns)
            if one.mean is not None and one.counts:
                self._count_student(one.mean, one.played, one.frames, one.returns)

    @property
    def trust(self) -> float:
        """How much the expert is to be trusted, 0 to 1 (agent.trust): each complete evaluation of
        the network counts, beside the expert's newest."""
        return self._trust.value

    @property
    def under_way(self) -> bool:
        """An evaluation is going on."""
        return self._open

    def over(self, clock: float) -> bool:
        """The evaluation can be closed, as far as the gateways have told. Of several gateways each
        must have been heard."""
        if not self._open:
            return False
        quiet_s = clock - self._changed
        if not self._games:
            missing = any(part.missing for part in self._parts.values())
            return not missing or quiet_s >= RETURN_S
        return all(game.done for game in self._games.values()) and quiet_s >= LINGER_S

    def report(
        self,
        gateway: int,
        games: Sequence[EvaluationGame],
        episodes: Iterable[FinishedEpisode],
        now: Moment,
    ) -> list[Evaluation]:
        """A gateway reported. Returns evaluations that have reached their most episodes.

        `games`: all that play evaluation there now; `episodes`: those that ended since its last
        report, of any role: of a game that is no longer among `games`, all are told.
        """
        found = []
        ended = [episode for episode in episodes if episode.role in self._parts]
        came = [game for game in games if game.session not in self._games]
        if (came or ended) and not self._open:
            self._open, self._frames = True, now.frames
            self._versions = (now.version, now.version)
        if not self._open:
            return []
        self._versions = (self._versions[0], now.version)
        for game in came:
            self._changed = now.clock
            self._games[game.session] = _Game(gateway, game, game.episodes)
            if game.episodes is not None:
                self._parts[game.role].announce(game.episodes)
        for episode in ended:
            part = self._parts[episode.role]
            if part.accounted >= max(MOST, part.announced) and not self._surplus(episode):
                found.append(self._close([episode.role], now.time))
                self._frames, self._versions = now.frames, (now.version, now.version)
            self._add(episode, now.clock)
        for game in games:
            self._games[game.session].now = game
        there = {game.session for game in games}
        self._go(gateway, there, now.clock)
        return found

    def lost(self, gateway: int, clock: float) -> None:
        """A gateway has died, and its connections with it, in the middle of their episodes."""
        for game in self._games.values():
            if game.gateway == gateway and game.announced is None:
                game.left = game.now.slots
        self._go(gateway, set(), clock)

    def close(self, now: float) -> list[Evaluation]:
        """The evaluation is `over`, or the server stops; it, unless there is nothing to tell. What
        games play that stay is of the next one. `now`: seconds since 1970."""
        for game in self._games.values():
            if game.announced is not None:
                self._parts[game.now.role].leave(game.announced - game.played, bye=True)
            game.announced, game.played, game.left = None, 0, 0
        self._open = False
        told = any(part.anything for part in self._parts.values())
        return [self._close([STUDENT, TEACHER], now)] if told else []

    def progress(self, names: Mapping[int, str]) -> str:
        """How far it is and for whom it waits, in words. `names`: who a session is."""
        there = {game.now.role for game in self._games.values()}
        parts = [
            f"{self._parts[role].progress} of the {name}"
            for role, name in ((STUDENT, "network"), (TEACHER, "expert"))
            if role in there or self._parts[role].anything
        ]
        waiting = [game.now for game in self._games.values() if not game.done]
        text = f"evaluation: {', '.join(parts)}" if parts else "evaluation"
        if not waiting:
            return text
        slowest = max(waiting, key=lambda game: (game.seconds, game.frames))
        who = names.get(slowest.session, "unknown address")
        others = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
        return (
            f"{text}; it waits for session {slowest.session} ({who}), "
            f"{slowest.frames:,} frames and "
            f"{slowest.seconds:.0f} s in its episode{others}"
        )

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

    def _surplus(self, episode: FinishedEpisode) -> bool:
        """Its game has played what it announced."""
        game = self._games.get(episode.session)
        return game is not None and game.done

    def _add(self, episode: FinishedEpisode, clock: float) -> None:
        game = self._games.get(episode.session)
        part = self._parts[episode.role]
        if game is not None and game.done:
            part.left_out += not episode.cut
            return
        self._changed = clock
        played = part.add(episode)
        if game is None:
            part.broken += not played  # it came and went between two reports
        elif played:
            game.played += 1
        else:
            game.left += 1

    def _go(self, gateway: int, there: set[int], clock: float) -> None:
        """Of this gateway's games all have gone that are not `there`."""
        gone = [s for s, game in self._games.items() if game.gateway == gateway and s not in there]
        for session in gone:
            game = self._games.pop(session)
            part = self._parts[game.now.role]
            self._changed = clock
            if game.announced is not None:
                part.leave(game.announced - game.played, bye=game.now.bye)
            else:
                part.broken += game.left >= game.now.slots

    def _close(self, roles: list[str], now: float) -> Evaluation:
        """What these roles have played so far is an evaluation."""
        empty = EvaluationPart()
        parts = {role: self._parts[role] for role in roles}
        student, teacher = parts.get(STUDENT, empty), parts.get(TEACHER, empty)
        self._parts |= {role: EvaluationPart() for role in roles}
        for game in self._games.values():
            if game.now.role in roles:
                game.announced, game.played, game.left = None, 0, 0
        if teacher.mean is not None and not teacher.why:
            self._count_teacher(teacher.mean, teacher.ended, teacher.returns)
        if student.mean is not None and not student.why:
            self._count_student(student.mean, student.ended, self._frames, student.returns)
        return Evaluation(
            time=now,
            frames=self._frames,
            versions=self._versions,
            returns=tuple(student.returns),
            mean=student.mean,
            expert_returns=tuple(teacher.returns),
            expert_mean=None if math.isnan(self.expert_mean) else self.expert_mean,
            partial=bool(student.why),
            why=student.why,
            cut=tuple(student.cut),
            expert_partial=bool(teacher.why),
            expert_why=teacher.why,
            expert_cut=tuple(teacher.cut),
            left_out=student.left_out + teacher.left_out,
            expert_filled=teacher.filled,
            episodes=student.beyond,
            expert_episodes=teacher.beyond,
        )

    def _count_student(
        self, mean: float, episodes: int, frames: int, returns: Sequence[float]
    ) -> None:
        """Take a complete evaluation of the network into account."""
        self._trust.compare(returns, self._expert_returns)
        self.mean, self.episodes, self.frames = mean, float(episodes), float(frames)
        self.first = mean if math.isnan(self.first) else self.first
        self.best = mean if math.isnan(self.best) else max(self.best, mean)

    def _count_teacher(self, mean: float, episodes: int, returns: Sequence[float]) -> None:
        """The same of the expert."""
        self.expert_mean, self.expert_episodes = mean, float(episodes)
        self._expert_returns = tuple(returns)
