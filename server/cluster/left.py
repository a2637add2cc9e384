"""What a node's gateways have answered for, in files of its machine, which outlive its actor.

A later actor of the run on this machine finds them, of the same start of the server or of the next
one, and the driver counts what was lost.
"""

from __future__ import annotations

import json
from pathlib import Path

from agent.files import written_whole
from server.cluster.messages import Answered, Setup
from server.ipc import inflight
from server.ipc.inflight import InFlightCounters

WHOSE = "whose.json"
"""Beside the counters: of which gateways they are, and of which actor."""


def begin_counting(
    folder: Path, setup: Setup, gateways: tuple[int, ...], everywhere: int
) -> InFlightCounters:
    """Count anew. `folder`: of this node on this machine. `gateways`: its own, of so many
    `everywhere`. Errors: OSError."""
    counters = InFlightCounters(folder / inflight.FILE, 0, everywhere)
    whose = {"launch": setup.launch, "made": setup.made, "gateways": gateways}
    with written_whole(folder / WHOSE) as file:
        file.write(json.dumps(whose).encode())
    return counters


def read_left(folder: Path) -> dict[int, Answered]:
    """What there is in a node's folder, by gateway; nothing where it was not written whole."""
    try:
        whose = json.loads((folder / WHOSE).read_bytes())
        launch, made = int(whose["launch"]), int(whose["made"])
        cells = {int(g): inflight.cells(folder / inflight.FILE, int(g)) for g in whose["gateways"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {g: Answered(launch, made, int(each[0]), int(each[1])) for g, each in cells.items()}
