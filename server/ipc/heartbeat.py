"""Signs of life, both ways: a child counts in shared memory and its supervisor looks whether the
count goes on; the child looks whether it still has that supervisor.

Counts and not times: a clock that jumps, or a machine that slept, makes nobody look dead.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from typing import Any

import numpy as np

LONG_S = 600.0
"""How long a child may be silent while it loads, saves or writes out much."""

ORPHAN_S = 7.0
"""How long a child without a supervisor may take to end in order."""

_LOOK_S = 0.5
"""How often a child looks whether it has a supervisor."""

_PR_SET_PDEATHSIG = 1

_BEATS, _ALLOWED_MS = 0, 1


class Heartbeat:
    """A child's end. Made by the supervisor, handed to a process that it spawns."""

    def __init__(self, context: Any = multiprocessing) -> None:
        """`context`: of multiprocessing, that the child is spawned with."""
        # Without a name: nothing is left behind, whoever is killed.
        self.shared = context.RawArray(ctypes.c_int64, 2)
        self._cells: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"shared": self.shared, "_cells": None}

    def beat(self) -> None:
        """The loop has come round."""
        cells = self._view()
        cells[_BEATS] += 1
        cells[_ALLOWED_MS] = 0

    def busy(self, seconds: float = LONG_S) -> None:
        """Until the next beat, this long a silence means nothing."""
        self._view()[_ALLOWED_MS] = int(seconds * 1000)

    def tell(self, numbers: tuple[int, int]) -> None:
        """Pass on what a HeartbeatMonitor on another machine has seen."""
        self._view()[:] = numbers

    def live_with_parent(self) -> None:
        """From now on, end this process when the one that started it is gone and this one has not
        ended by itself within ORPHAN_S, whatever its loop hangs in. The process that forks the
        children of a supervisor ends with the supervisor."""
        if sys.platform == "linux":
            # One that is stopped can look at nothing: the system wakes it when its parent dies.
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGCONT))
        parent = os.getppid()
        threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()

    def _view(self) -> Any:
        if self._cells is None:
            self._cells = np.frombuffer(self.shared, np.int64)
        return self._cells


def _watch(parent: int) -> None:
    """End this process some time after its parent."""
    started_by = multiprocessing.parent_process()
    if started_by is None or started_by.is_alive():  # else it was gone before this one looked
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
    time.sleep(ORPHAN_S)
    os._exit(1)


class HeartbeatMonitor:
    """The supervisor's end: how long a child has been silent."""

    def __init__(self, heartbeat: Heartbeat, now: float) -> None:
        self._cells = np.frombuffer(heartbeat.shared, np.int64)
        self._beats = -1
        self._since = now

    def silent_s(self, now: float) -> float:
        """Seconds without a beat, as far as this end has looked. `now`: a clock that only rises."""
        beats = int(self._cells[_BEATS])
        if beats != self._beats:
            self._beats, self._since = beats, now
        return now - self._since

    @property
    def numbers(self) -> tuple[int, int]:
        """What the child has written, for Heartbeat.tell."""
        return int(self._cells[_BEATS]), int(self._cells[_ALLOWED_MS])

    @property
    def allowed_s(self) -> float:
        """The silence that the child has announced; 0 for none."""
        # Before its first beat it starts, which may take long.
        return self._cells[_ALLOWED_MS] / 1000 if self._cells[_BEATS] else LONG_S

    def forget(self, now: float) -> None:
        """Count silence from now on."""
        self._since = now
