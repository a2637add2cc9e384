"""How long to wait between attempts to reach a server."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with jitter.

    The k-th wait is drawn from the upper half of min(`longest_s`, `first_s` * 2**k), so that many
    games that lost one server do not all come back in the same instant. `give_up_s` is counted
    from the first failure; 0 never tries again.
    """

    first_s: float = 0.1
    longest_s: float = 5.0
    give_up_s: float = 60.0

    def waits(self, rng: random.Random) -> Iterator[float]:
        """The waits in seconds, without end."""
        limit = self.first_s
        while True:
            yield rng.uniform(0.5, 1.0) * min(limit, self.longest_s)
            limit = min(2 * limit, self.longest_s)
