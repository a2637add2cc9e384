"""Games of evaluation by the clock: episodes beyond `evaluation.*` are cut.

Looked at a few times a second, not with each frame. A game that goes beyond a limit is told with
an ERROR that may be tried again: clients connect once more and begin a new episode, so that one
that never ends keeps nobody from evaluating.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agent.decision import EVALUATED, ROLES
from config.models import EvaluationConfig
from protocol.errors import RemoteError
from server.gateway.slots import SlotTable
from server.ipc.messages import EvaluationGame

GRACE_S = 10.0
"""A game that keeps the limit by itself ends its episode at about the same time: it is let."""

LONGEST_LOOK_S = 1.0
"""What lies between two looks counts as this at most: a machine that was suspended cuts nothing."""

_ROLE_NAMES = {number: name for name, number in ROLES.items()}


class EvaluatedConnection(Protocol):
    """What the watch needs of a connection (server.gateway.connection)."""

    rows: npt.NDArray[np.int64]
    """Of its slots in the table; empty before WELCOME."""
    number: int
    announced: int | None
    """Episodes of evaluation that it said it would play."""

    said_bye: bool

    @property
    def ending(self) -> bool:
        """All is said; it only has to read that."""

    @property
    def paused(self) -> bool:
        """The server is not reading from it."""

    def fail(self, error: RemoteError) -> None:
        """End the connection with an error."""


class _Clocks:
    """Of one connection."""

    def __init__(self, slots: int) -> None:
        self.seconds = np.zeros(slots)
        """For which each slot's episode has been played."""
        self.episodes = np.zeros(slots, np.int64)
        """That had ended at the last look."""
        self.idle_s = 0.0
        """For how long no episode has been under way."""


class EvaluationWatch:
    """The clocks of all connections that play evaluation."""

    def __init__(self) -> None:
        self._clocks: dict[Any, _Clocks] = {}
        self._then: float | None = None

    def look(
        self,
        connections: Iterable[EvaluatedConnection],
        table: SlotTable,
        limits: EvaluationConfig,
        now: float,
    ) -> None:
        """Cut what has gone beyond the limits. `now`: s, of a clock that only rises."""
        most, most_s = limits.episode_frames, limits.episode_s
        elapsed = min(now - self._then, LONGEST_LOOK_S) if self._then is not None else 0.0
        self._then = now
        playing = list(_evaluating(connections, table))
        self._clocks = {each: self._clocks.get(each) or _Clocks(len(each.rows)) for each in playing}
        for connection, clocks in self._clocks.items():
            rows = connection.rows
            ended, under_way = table.episodes[rows], table.pending[rows]
            going_on = under_way & (ended == clocks.episodes)
            if not connection.paused:
                clocks.seconds += elapsed
                clocks.idle_s += elapsed
            clocks.seconds[~going_on] = 0.0
            if under_way.any() or (ended != clocks.episodes).any():
                clocks.idle_s = 0.0
            clocks.episodes = ended
            frames = table.episode_length[rows]
            beyond = (frames > most) | (clocks.seconds > most_s + GRACE_S)
            if beyond.any():
                table.limited[rows[beyond]] = True
                slot = int(np.argmax(beyond))
                connection.fail(_too_long(slot, int(frames[slot]), clocks.seconds[slot], limits))
            elif clocks.idle_s > most_s + GRACE_S and not _done(connection, ended):
                connection.fail(_idle(clocks.idle_s, limits))

    def games(
        self, connections: Iterable[EvaluatedConnection], table: SlotTable
    ) -> list[EvaluationGame]:
        """Who plays evaluation, for the report."""
        found = []
        for connection in _evaluating(connections, table, ending=True):
            rows, clocks = connection.rows, self._clocks.get(connection)
            seconds = max(float(clocks.seconds.max()), clocks.idle_s) if clocks else 0.0
            found.append(
                EvaluationGame(
                    connection.number,
                    _ROLE_NAMES[int(table.role[rows[0]])],
                    len(rows),
                    connection.announced,
                    int(table.episode_length[rows].max()),
                    seconds,
                    connection.said_bye,
                )
            )
        return found


def _evaluating(
    connections: Iterable[EvaluatedConnection], table: SlotTable, *, ending: bool = False
) -> Iterator[EvaluatedConnection]:
    """Those that play evaluation. `ending`: those that are told why they must go, too."""
    for each in connections:
        evaluated = len(each.rows) and table.role[each.rows[0]] in EVALUATED
        if evaluated and (ending or not each.ending):
            yield each


def _done(connection: EvaluatedConnection, ended: npt.NDArray[np.int64]) -> bool:
    """It has played what it announced, and waits for others."""
    return connection.announced is not None and int(ended.sum()) >= connection.announced


def _too_long(slot: int, frames: int, seconds: float, limits: EvaluationConfig) -> RemoteError:
    return RemoteError(
        "episode_limit",
        f"slot {slot}: expected an episode of evaluation of at most {limits.episode_frames:,} "
        f"frames and {limits.episode_s:g} s, got one that goes on after {frames:,} frames, "
        f"{seconds:.0f} s; it is cut: begin the next one. If it may be so long, raise "
        "evaluation.episode_frames or evaluation.episode_s",
        retry=True,
    )


def _idle(seconds: float, limits: EvaluationConfig) -> RemoteError:
    return RemoteError(
        "episode_limit",
        f"expected the next episode of evaluation within {limits.episode_s:g} s, got none for "
        f"{seconds:.0f} s; leave when all is played, announce `episodes`, or raise "
        "evaluation.episode_s",
        retry=True,
    )
