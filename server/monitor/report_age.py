"""How old the newest report of each process is: an old one says nothing about now."""

from __future__ import annotations

import math
from collections.abc import Mapping

from agent.finding import Finding
from server.ipc.messages import GATEWAY, TRAINER

INTERVALS, SHORTEST_S = 3, 1.0
"""After so many intervals without a report, and no less time, the newest one is of the past."""

WORTH_A_WARNING_S = 10.0
"""It must be missing for so long: a start on a busy machine, or a checkpoint that is written to a
slow disk, is no trouble."""


class ReportAges:
    """When each process was last heard of. One that has died keeps its age until its successor
    reports: what it said is not so any more."""

    def __init__(self, every_s: float) -> None:
        """`every_s`: how often each process reports."""
        self.old_after_s = max(INTERVALS * every_s, SHORTEST_S)
        """A report that is older says nothing about now."""
        self._heard: dict[str, float] = {}

    def heard(self, process: str, now: float) -> None:
        """A process (gateway-0, gateway-1, ..., trainer) has reported. `now`: s, by a clock that
        only rises, as everywhere here."""
        self._heard[process] = now

    def forget(self, process: str) -> None:
        """A process has ended for good: it is missed no more."""
        self._heard.pop(process, None)

    def age_s(self, kind: str, now: float) -> float:
        """Seconds since the newest report of a kind of process; of several the oldest. NaN before
        the first."""
        ages = [now - at for process, at in self._heard.items() if process.startswith(kind)]
        return max(ages, default=math.nan)

    def late(self, now: float) -> dict[str, float]:
        """The processes whose newest report is of the past, each with its age, s."""
        return {name: now - at for name, at in self._heard.items() if now - at > self.old_after_s}

    def kinds_late(self, now: float) -> set[str]:
        """The kinds of process of which one is late."""
        late = self.late(now)
        return {kind for kind in (GATEWAY, TRAINER) if any(name.startswith(kind) for name in late)}


def degraded(late: Mapping[str, float]) -> str:
    """What is wrong, in words; empty for nothing. `late`: see ReportAges."""
    parts = [f"{name} has reported nothing for {age:.0f} s" for name, age in late.items()]
    return "; ".join(parts)


def late_findings(late: Mapping[str, float], pids: Mapping[str, int]) -> list[Finding]:
    """What is worth a warning. `late`: see ReportAges. `pids`: the processes that run and have not
    announced that they are busy for long (loading, saving)."""
    return [
        Finding(
            f"no_report_{name}",
            f"{name} (pid {pids[name]}) has reported nothing for {age:.0f} s; its numbers are not "
            "shown meanwhile",
            f"if somebody stopped it, let it go on (kill -CONT {pids[name]}); else look for a "
            "machine that swaps, or a disk that hangs; it is killed and restarted after "
            "supervision.hang_timeout_s without a sign of life",
        )
        for name, age in late.items()
        if name in pids and age >= WORTH_A_WARNING_S
    ]
