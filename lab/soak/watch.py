"""Looks at a server under load from outside, each second, until it has a quarter's samples."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lab.load.process import LoadProcess
from lab.proc import open_files, own_bytes
from lab.soak.judge import Quarter, ServerSample, together
from lab.soak.load import Second
from lab.soak.server import SoakFailed, SoakServer

KEEP = 3
"""Checkpoints that are kept."""

ASK_S = 5.0
"""Between two times that HTTP is asked."""

ASKED = ("/metrics", "/healthz", "/api/state", "/api/games", "/api/history?points=300", "/")

WAIT_S = 120.0
"""For a second of the load, on a machine that is busy."""


class Watch:
    """Looks at a server each second."""

    def __init__(self, server: SoakServer, load: LoadProcess) -> None:
        self._server, self._load = server, load
        self._begin = time.monotonic()
        self._next_asked = 0.0
        self._checkpoints: set[str] = set()
        """All that were seen."""

    def samples(self, seconds: float) -> list[ServerSample]:
        """Of the next seconds, at least two. Errors: SoakFailed."""
        until, found = time.monotonic() + seconds, list[ServerSample]()
        while len(found) < 2 or time.monotonic() < until:
            found.append(self._sample())
        return found

    def warm_up(self, values: Mapping[str, Any], least_s: float) -> Quarter:
        """Wait until the replay is full and checkpoints have been pruned. Errors: SoakFailed."""
        capacity, begin = int(values["replay.capacity_steps"]), time.monotonic()
        found: list[ServerSample] = []
        while True:
            found.append(self._sample())
            row = self._server.state()["row"]
            full = (row["steps_stored"] or 0) > 1.1 * capacity
            if full and len(self._checkpoints) > KEEP + 1 and time.monotonic() > begin + least_s:
                return together([*found, self._sample()])
            if time.monotonic() > begin + least_s + 10 * WAIT_S:
                raise SoakFailed(
                    f"expected a full replay of {capacity} steps and {KEEP + 2} checkpoints before "
                    f"the first quarter, got {row['steps_stored']} steps and "
                    f"{len(self._checkpoints)} checkpoints"
                )

    def _sample(self) -> ServerSample:
        try:
            second: Second = self._load.receive(timeout_s=WAIT_S)
        except Exception as error:  # whatever the load has sent, it plays no more
            raise SoakFailed(
                f"the games do not play on: {type(error).__name__}: {error}; the server printed: "
                f"{self._server.output()}"
            ) from None
        if time.monotonic() >= self._next_asked:
            self._next_asked = time.monotonic() + ASK_S
            for path in ASKED:
                self._server.ask(path)
        disk, written = self._server.disk()
        self._checkpoints |= {path.name for path in self._server.checkpoints.glob("update-*.pt")}
        return ServerSample(
            at_s=time.monotonic() - self._begin,
            seconds=second.seconds,
            histogram=second.histogram,
            visits=second.visits,
            memory={name: own_bytes(pid) for name, pid in self._server.pids.items()},
            files={name: open_files(pid) for name, pid in self._server.pids.items()},
            disk=disk,
            written=written,
        )
