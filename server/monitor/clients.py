"""Who is connected, and how they play: from what the gateways tell to rows for a page. Pure.

A gateway says once who has joined (`Joined`) and once that they have gone (`Left`); in between its
reports have nothing but a few integers for each connection.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from protocol.actor import Actor
from server.ipc.messages import GatewayReport, Joined

RETURNS = 50
"""Returns of a connection's newest episodes that are kept."""


@dataclass
class _Player:
    joined: Joined
    frames: int = 0
    dqn: int = 0
    expert: int = 0
    episodes: int = 0
    returns: deque[float] = field(default_factory=lambda: deque(maxlen=RETURNS))
    frames_then: int = 0
    """At the last row."""
    per_s: float = 0.0


class Clients:
    """The connections that play now."""

    def __init__(self) -> None:
        self._clients: dict[int, _Player] = {}
        self._then: float | None = None

    @property
    def training(self) -> int:
        """Connections with the role train."""
        return sum(player.joined.role == "train" for player in self._clients.values())

    def joined(self, message: Joined) -> None:
        """A client was welcomed."""
        self._clients[message.session] = _Player(message)

    def left(self, session: int) -> None:
        """A client is gone."""
        self._clients.pop(session, None)

    def gone(self, gateway: int) -> None:
        """A gateway has died, and its connections with it."""
        kept = self._clients.items()
        self._clients = {number: one for number, one in kept if one.joined.gateway != gateway}

    def report(self, report: GatewayReport) -> None:
        """A gateway reported: numbers of those of its connections that are still there."""
        counts = report.played.tolist()
        for session, by_actor in zip(report.sessions, counts, strict=True):
            if player := self._clients.get(session):
                player.frames = sum(by_actor)
                player.dqn, player.expert = by_actor[Actor.DQN], by_actor[Actor.EXPERT]
        for episode in report.episodes:
            if player := self._clients.get(episode.session):
                player.episodes += 1
                player.returns.append(episode.episode_return)

    def rows(self, now: float) -> list[dict[str, Any]]:
        """Plain data, a row for each connection, in the order in which they came. Rates are over
        the time since the last call. `now`: by the clock of `Joined.time`."""
        seconds = now - self._then if self._then is not None else 0.0
        self._then = now
        found = []
        for player in self._clients.values():
            joined = player.joined
            if seconds > 0:
                player.per_s = (player.frames - player.frames_then) / seconds
            player.frames_then = player.frames
            found.append(
                {
                    "session": joined.session,
                    "client": joined.client,
                    "game": joined.game,
                    "role": joined.role,
                    "slots": joined.slots,
                    "peer": joined.peer,
                    "gateway": joined.gateway,
                    "connected_s": max(0.0, now - joined.time),
                    "frames": player.frames,
                    "frames_per_s": player.per_s,
                    "frames_dqn": player.dqn,
                    "frames_expert": player.expert,
                    "episodes": player.episodes,
                    "last_return": player.returns[-1] if player.returns else None,
                    "recent_returns": list(player.returns),
                }
            )
        return found
