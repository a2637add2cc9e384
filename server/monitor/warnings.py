"""Warnings that hold: each logged once, then after growing pauses, and shown until it has ended.

To add one, say what you find as an `agent.finding.Finding`, at every look, for as long as it holds:

- in the trainer: among the `findings` of its report (`server.trainer.reporter`);
- in a gateway: `ConnectionLog.find`, which puts it into the next report;
- in the supervisor: from a row of metrics or the configuration, in
  `MetricsPublisher._look` (`server.supervisor.metrics_publisher`);
- in the thread of HTTP: `Warnings.note` itself, which any thread may call.

The rest follows: log, dashboard, terminal, /api/state, /metrics. Whoever looks need not remember
what was said before. What can happen only once, at a start, is an ordinary line of the log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.finding import Finding

log = logging.getLogger("warnings")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 3600.0
"""Between two lines about the same warning; each pause is twice the one before."""

SPELL_S = 10.0
"""What is found again after less is the same spell."""

ENDED_S = 60.0
"""What was not found for so long has ended. It may come back: its pause is kept."""

FORGOTTEN_S = 2 * LONGEST_PAUSE_S
"""What was not found for so long is new when it comes back."""

MOST = 50
"""Warnings that are remembered."""

ID, TEXT = 80, 600
"""Letters of an id, and of a text or a cure: some have words of a client in them."""


@dataclass(slots=True)
class _Warning:
    """One id; times by `time.monotonic`."""

    found: Finding
    first: float
    """Of this time that it holds: it starts anew after it has ended."""
    last: float
    spells: int = 1
    """How often it has begun since `first`."""
    next_line: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    ended: bool = False


class Warnings:
    """What holds now. Any thread may use it."""

    def __init__(
        self,
        every_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        of_day: Callable[[], float] = time.time,
    ) -> None:
        """`every_s`: how often those look that look in intervals; in seconds, as the clocks."""
        self._spell_s, self._ended_s = max(SPELL_S, 3 * every_s), max(ENDED_S, 4 * every_s)
        self._clock, self._of_day = clock, of_day
        self._known: dict[str, _Warning] = {}
        self._lock = threading.Lock()

    def note(self, *found: Finding) -> None:
        """These hold now, or have just happened."""
        with self._lock:
            for finding in found:
                self._note(_bounded(finding), self._clock())

    def _note(self, found: Finding, now: float) -> None:
        known = self._known.get(found.id)
        if known is None:
            if len(self._known) >= MOST:
                del self._known[min(self._known, key=lambda id_: self._known[id_].last)]
            known = self._known[found.id] = _Warning(found, now, now)
        else:
            if known.ended:
                known.first, known.spells, known.ended = now, 1, False
            elif now - known.last > self._spell_s:
                known.spells += 1
            known.found, known.last = found, now
        if now >= known.next_line:
            times = f" ({known.spells} times in {_minutes(now - known.first)})"
            log.warning("%s%s", found, times if known.spells > 1 else "")
            known.next_line = now + known.pause_s
            known.pause_s = min(2 * known.pause_s, LONGEST_PAUSE_S)

    def over(self, *ids: str) -> None:
        """These hold no longer, for sure: settings have changed. When they come back, they are
        new."""
        with self._lock:
            for id_ in ids:
                self._known.pop(id_, None)

    def holding(self) -> list[dict[str, Any]]:
        """Plain data: what holds, the newest first. `since` and `last` are seconds since 1970;
        `times`: how often it has begun since then."""
        with self._lock:
            now = self._clock()
            self._end(now)
            there = sorted(
                (one for one in self._known.values() if not one.ended),
                key=lambda one: one.first,
                reverse=True,
            )
            to_date = self._of_day() - now
            return [
                {
                    "id": one.found.id,
                    "text": one.found.text,
                    "cure": one.found.cure,
                    "since": to_date + one.first,
                    "last": to_date + one.last,
                    "times": one.spells,
                }
                for one in there
            ]

    def _end(self, now: float) -> None:
        for id_, one in list(self._known.items()):
            quiet_s = now - one.last
            if quiet_s > FORGOTTEN_S:
                del self._known[id_]
            elif not one.ended and quiet_s > self._ended_s:
                one.ended = True


def in_one_line(holding: Sequence[Mapping[str, Any]]) -> str:
    """What holds, for a terminal: the newest, and how many there are besides; empty for none."""
    if not holding:
        return ""
    first, *others = holding
    more = f" (and {len(others)} more: see the dashboard)" if others else ""
    return f"warning: {first['text']}; {first['cure']}{more}"


def _bounded(found: Finding) -> Finding:
    return Finding(found.id[:ID], found.text[:TEXT], found.cure[:TEXT])


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
