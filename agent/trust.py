"""How much the expert is to be trusted, from returns of the network's episodes and of its own."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence

import numpy as np

WORSE, AS_GOOD = math.log(2.0), math.log(3.0)
"""What an episode of the network adds to the logarithm of the trust where all that it is compared
with were better, and what it takes away where none was. So the trust stays as it is beside a
network that is worse in 61 % of the pairs, and beside one that is as good it goes."""

LEAST, MOST = math.log(0.002), AS_GOOD
"""Bounds of the logarithm. Above 0 it does not show: one lucky episode lowers nothing."""

EPISODES = 4
"""An evaluation counts as so many episodes at most: its network is but one."""

TAUGHT, TAUGHT_EPISODES = 0.5, 10
"""From this trust on the network counts as taught, and its newest returns of that time as what it
is capable of with the expert."""


class Trust:
    """A sum of evidence between two bounds: a sequential test (Page 1954, doi:10.2307/2333009) of
    whether the network has become as good as the expert, and of whether it no longer is.

        log t <- clip(log t + u log 2 - (1 - u) log 3, log 0.002, log 3)

    u is the share of the expert's returns that are greater than the network's, one more counted for
    what is not known of the expert; or, if it is larger, the same share of the network's own
    returns of when it was taught. A network can be better than its expert because it is taught, and
    is taught again where it falls without. Only the order of returns matters, not their scale.
    """

    def __init__(self) -> None:
        self._log = MOST
        self._taught: deque[float] = deque(maxlen=TAUGHT_EPISODES)

    @property
    def value(self) -> float:
        """0 to 1; 1 without evidence."""
        return math.exp(min(self._log, 0.0))

    def compare(self, dqn: Sequence[float], expert: Collection[float]) -> None:
        """Count the returns of new episodes of the network, beside those known of the expert.
        Without either: nothing."""
        if not dqn or not expert:
            return
        u = (_greater(expert, dqn) * len(expert) + 1) / (len(expert) + 1)
        if self._taught:
            u = max(u, _greater(self._taught, dqn))
        if self.value >= TAUGHT:
            self._taught.extend(dqn)
        step = u * WORSE - (1 - u) * AS_GOOD
        self._log = min(max(self._log + min(len(dqn), EPISODES) * step, LEAST), MOST)


def _greater(these: Collection[float], those: Collection[float]) -> float:
    """The share of all pairs in which the first is greater."""
    return float(np.greater.outer(np.fromiter(these, float), np.fromiter(those, float)).mean())
