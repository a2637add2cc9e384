"""Connected clients and their play, as rows for the dashboard, from messages of the gateways. Pure.

A gateway sends `Joined` once for each client, and `Left` when it has gone. In between, its reports
have only a few integers for each connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

from protocol.actor import Actor
from server.ipc.messages import GATEWAY, GatewayReport, Joined
from server.monitor.rate import Rate

RETURNS = 50
"""Newest episode returns that are kept for each connection."""


@dataclass
class _Client:
    """One connection."""

    joined: Joined
    role: str
    """In which it plays now: the server has older clients for Tempest play evaluations."""
    frames: int = 0
    dqn: int = 0
    expert: int = 0
    episodes: int = 0
    returns: deque[float] = field(default_factory=lambda: deque(maxlen=RETURNS))
    rate: Rate = field(default_factory=Rate)
    """Of frames."""


class Clients:
    """The clients that are connected now."""

    def __init__(self) -> None:
        self._clients: dict[int, _Client] = {}

    @property
    def training(self) -> list[Joined]:
        """Connections with the role train, in the order of arrival."""
        return [one.joined for one in self._clients.values() if one.joined.role == "train"]

    @property
    def peers(self) -> dict[int, str]:
        """Who is at the other end of each session."""
        return {session: one.joined.peer for session, one in self._clients.items()}

    def joined(self, message: Joined) -> None:
        """A client was admitted."""
        self._clients[message.session] = _Client(message, message.role)

    def left(self, session: int) -> None:
        """A client has disconnected."""
        self._clients.pop(session, None)

    def gateway_gone(self, gateway: int) -> None:
        """A gateway has died, and its connections with it."""
        kept = self._clients.items()
        self._clients = {number: one for number, one in kept if one.joined.gateway != gateway}

    def report(self, report: GatewayReport) -> None:
        """Take in a gateway's report about its connections."""
        roles = {game.session: game.role for game in report.evaluating}
        counts = report.played.tolist()
        for session, by_actor in zip(report.sessions, counts, strict=True):
            if client := self._clients.get(session):
                client.role = roles.get(session, client.joined.role)
                client.frames = sum(by_actor)
                client.rate.take(client.frames, report.time)
                client.dqn, client.expert = by_actor[Actor.DQN], by_actor[Actor.EXPERT]
        for episode in report.episodes:
            if (client := self._clients.get(episode.session)) and not episode.cut:
                client.episodes += 1
                client.returns.append(episode.episode_return)

    def rows(self, now: float, late: Container[str] = ()) -> list[dict[str, Any]]:
        """Plain data: a row for each connection, in the order of arrival. `now`: by the clock of
        `Joined.time`. `late`: the gateways that do not report, by name: nobody knows how fast their
        games play."""
        found = []
        for client in self._clients.values():
            joined = client.joined
            unknown = f"{GATEWAY}-{joined.gateway}" in late
            found.append(
                {
                    "session": joined.session,
                    "client": joined.client,
                    "game": joined.game,
                    "role": client.role,
                    "slots": joined.slots,
                    "peer": joined.peer,
                    "evaluates": joined.evaluates,
                    "gateway": joined.gateway,
                    "connected_s": max(0.0, now - joined.time),
                    "frames": client.frames,
                    "frames_per_s": None if unknown else client.rate.per_s(now),
                    "frames_dqn": client.dqn,
                    "frames_expert": client.expert,
                    "episodes": client.episodes,
                    "last_return": client.returns[-1] if client.returns else None,
                    "recent_returns": list(client.returns),
                }
            )
        return found
