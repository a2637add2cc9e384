"""Which child of the supervisor hangs, and whether and when one that is gone is started again."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable

from config.models import SupervisionConfig
from server.supervisor.child import Child

LONGEST_PAUSE_S = 30.0
"""Before a restart; until then each pause is twice the one before."""

STANDSTILL_S = 2.0
"""When the supervisor itself has not looked for longer, it was not the children who were late: a
machine that slept, a container that was frozen."""

_HINTS = {
    signal.SIGKILL: "if nobody did that, the system had no memory left: see its own log",
    signal.SIGBUS: "shared memory or the disk behind it is full",
}


class RestartPolicy:
    """Keeps the books; it is the supervisor that acts."""

    def __init__(self, settings: SupervisionConfig) -> None:
        self._settings = settings
        self._deaths: dict[str, deque[float]] = {}
        self._due: dict[Child, float] = {}
        self._looked: float | None = None

    def lost(self, child: Child, now: float) -> float | None:
        """A child is gone: after how many seconds it is to be started again (see `due`); None where
        that has happened too often."""
        settings = self._settings
        deaths = self._deaths.setdefault(child.name, deque())
        while deaths and now - deaths[0] > settings.window_s:
            deaths.popleft()
        if len(deaths) >= settings.max_restarts:
            return None
        pause = min(settings.backoff_s * 2.0 ** min(len(deaths), 30), LONGEST_PAUSE_S)
        deaths.append(now)
        self._due[child] = now + pause
        return pause

    def due(self, now: float) -> list[Child]:
        """The children that are to be started now; each is named once."""
        found = [child for child, when in self._due.items() if when <= now]
        for child in found:
            del self._due[child]
        return found

    def hung(self, children: Iterable[Child], now: float) -> list[tuple[Child, float]]:
        """The living children that have been silent for too long, and for how many seconds."""
        alive = [child for child in children if child.alive]
        if self._looked is None or now - self._looked > STANDSTILL_S:
            for child in alive:
                child.pulse.forget(now)
        self._looked = now
        found = []
        for child in alive:
            silent = child.pulse.silent_s(now)
            if silent > max(self._settings.hang_timeout_s, child.pulse.allowed_s):
                found.append((child, silent))
        return found

    @property
    def refusal(self) -> str:
        """Why it is not started again, in words."""
        settings = self._settings
        if not settings.max_restarts:
            return "nothing is started again (supervision.max_restarts is 0)"
        return (
            f"it is not started again, for it has been {settings.max_restarts} times within "
            f"{settings.window_s:g} s (supervision.max_restarts, window_s)"
        )


def cause(exit_code: int | None) -> str:
    """What ended a process, in words, by what multiprocessing says of it."""
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        number = signal.Signals(-exit_code)
    except ValueError:
        return f"signal {-exit_code}"
    hint = _HINTS.get(number)
    return f"killed by {number.name}" + (f"; {hint}" if hint else "")
