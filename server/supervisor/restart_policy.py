"""Which child processes hang, and whether and when one that was lost is restarted."""

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
    signal.SIGKILL: "if you did not send it, the system ran out of memory: see its own log",
    signal.SIGBUS: "shared memory or the disk behind it is full",
}


class RestartPolicy:
    """Decides; it is the supervisor that acts."""

    def __init__(self, settings: SupervisionConfig) -> None:
        self._settings = settings
        self._losses: dict[str, deque[float]] = {}
        self._due: dict[Child, float] = {}
        self._looked: float | None = None

    def restart_in(self, child: Child, now: float) -> float | None:
        """A child was lost: after how many seconds it is to be restarted (see `due`); None where
        that has happened too often."""
        settings = self._settings
        losses = self._losses.setdefault(child.name, deque())
        while losses and now - losses[0] > settings.window_s:
            losses.popleft()
        if len(losses) >= settings.max_restarts:
            return None
        pause = min(settings.backoff_s * 2.0 ** min(len(losses), 30), LONGEST_PAUSE_S)
        losses.append(now)
        self._due[child] = now + pause
        return pause

    def start_soon(self, child: Child, now: float) -> None:
        """Have a child started that is gone through no fault of the server's: it counts as no
        loss."""
        self._due[child] = now

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
                child.monitor.forget(now)
        self._looked = now
        found = []
        for child in alive:
            silent = child.monitor.silent_s(now)
            if silent > max(self._settings.hang_timeout_s, child.monitor.allowed_s):
                found.append((child, silent))
        return found

    @property
    def refusal(self) -> str:
        """Why a child is not restarted, in words."""
        settings = self._settings
        if not settings.max_restarts:
            return "not restarted, since supervision.max_restarts is 0"
        return (
            f"not restarted, since it was {settings.max_restarts} times within "
            f"{settings.window_s:g} s (supervision.max_restarts, supervision.window_s)"
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
