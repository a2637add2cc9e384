"""Metrics that a game names itself: the parts of its reward, and the numbers that its frames carry.

In a row of metrics they are `reward_part/ACTOR/PART`, `game_mean/NAME` and `game_peak/NAME`. No
other metric's name has a slash, and the game's own comes last: it may have any letters.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from protocol.actor import ACTORS, NAMES, TAG_COUNT
from server.ipc.game_report import GameReport

PART, MEAN, PEAK = "reward_part", "game_mean", "game_peak"

FORMS = {PART: f"{PART}/ACTOR/PART", MEAN: f"{MEAN}/NAME", PEAK: f"{PEAK}/NAME"}
"""Their names in a row."""

HELP = {
    PART: "mean of this part of the reward, weighted, in a training step of this actor, over the "
    "steps of the interval; only of games with several parts",
    MEAN: "of the number that the game names so: its mean over an episode, and of that the mean "
    "over the last 100 training episodes",
    PEAK: "of the number that the game names so: its largest value in an episode, and of that the "
    "mean over the last 100 training episodes",
}

EPISODES = 100

MOST = 256
"""Names of games' numbers in a run, at most: what clients send must not fill the server."""


@dataclass(frozen=True)
class GameMetric:
    """A name of a row, taken apart."""

    family: str
    name: str
    """The game's own word."""
    actor: str = ""


def is_game_metric(name: str) -> bool:
    """Whether this name in a row is of these families."""
    return name.split("/", 1)[0] in HELP and "/" in name


def parsed(name: str) -> GameMetric:
    """What a name that `is_game_metric` says."""
    family, rest = name.split("/", 1)
    if family != PART:
        return GameMetric(family, rest)
    actor, part = rest.split("/", 1)
    return GameMetric(family, part, actor)


class GameMetrics:
    """Adds up what gateways tell of them, for the next row."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
        """Of each part of the reward by actor, in the interval."""
        self._steps = np.zeros(TAG_COUNT)
        self._parts: dict[str, float] = {}
        """Means of the newest interval that was reported."""
        self._heard = False
        """There was a report since the newest row."""
        self._episodes: dict[str, deque[tuple[float, float]]] = {}
        """Mean and peak of each number in the newest training episodes."""

    def take(self, report: GameReport) -> None:
        """What a gateway counted in its interval."""
        self._heard = True
        for part, sums in report.reward_parts.items():
            self._sums[part] = self._sums.get(part, np.zeros(TAG_COUNT)) + sums
        self._steps += report.reward_steps
        for episode in report.numbers:
            for name, found in episode.items():
                if name not in self._episodes and len(self._episodes) >= MOST:
                    continue
                self._episodes.setdefault(name, deque(maxlen=EPISODES)).append(found)

    def row(self) -> dict[str, float]:
        """Their metrics now; what is of an interval begins anew. A row that comes before the next
        report has the means of the one before."""
        if self._heard:
            self._parts = self._means()
            self._heard = False
        found = dict(self._parts)
        for name, episodes in self._episodes.items():
            for family, values in (
                (MEAN, [m for m, _ in episodes]),
                (PEAK, [p for _, p in episodes]),
            ):
                found[f"{family}/{name}"] = math.fsum(values) / len(values)
        return found

    def _means(self) -> dict[str, float]:
        """Of the parts of the reward, by actor, since this was last called."""
        found = {}
        for part, sums in self._sums.items():
            for actor in ACTORS:
                steps = self._steps[actor]
                mean = float(sums[actor] / steps) if steps else math.nan
                found[f"{PART}/{NAMES[actor]}/{part}"] = mean
            sums[:] = 0
        self._steps[:] = 0
        return found
