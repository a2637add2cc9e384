"""What the gateways of the start before had answered for, as their machines know it.

The run's own counters (server.ipc.inflight) are the driver's, and as old as what it heard last. A
node's counters are exact, and begin at 0 with each actor. So the driver keeps in the run's folder
how many steps came before those of each gateway's newest actor, and what it has counted of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.files import written_whole
from server.cluster.messages import Answered
from server.cluster.remote_ring import NOTHING_COUNTED, Counted
from server.run.directory import RunDirectory

FILE = "in-flight-nodes.json"


class PreviousStart:
    """Read from the start before, written for the next one."""

    def __init__(self, folder: RunDirectory) -> None:
        self._path = folder.path / FILE
        self._launch = folder.launch
        self._kept: dict[int, tuple[int, int, Counted]] | None = None
        self._last = _read(self._path)
        self.answered: dict[int, tuple[int, int]] = {}
        """Of gateways of the start before, by number: steps that they had completed in it, and
        frames answered beyond them."""

    def found(self, gateway: int, left: Answered) -> None:
        """A machine still has what the actor of a gateway has left, in an earlier start."""
        if left.launch == self._last.get("launch"):
            made, before, counted = self._last["gateways"].get(
                str(gateway), (0, 0, NOTHING_COUNTED)
            )
            if made == left.made:
                steps, frames = Counted(*counted).beyond(left)
                self.answered[gateway] = before + steps, frames

    def keep(self, gateways: Mapping[int, tuple[int, int, Counted]]) -> None:
        """For the next start, of each gateway: how often its actor was made anew in this one, the
        STEP rows of the actors before, and what was counted of its processes. Where that cannot be
        written, the next start counts by what the driver had heard."""
        if gateways == self._kept:
            return
        self._kept = dict(gateways)
        try:
            with written_whole(self._path) as file:
                file.write(json.dumps({"launch": self._launch, "gateways": gateways}).encode())
        except OSError:
            self._kept = None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    whole = isinstance(found, dict) and isinstance(found.get("gateways"), dict)
    return found if whole and all(len(each) == 3 for each in found["gateways"].values()) else {}
