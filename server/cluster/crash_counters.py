"""What a node's gateways have answered for, in files of its machine, which outlive its actor.

A later actor of the run on this machine finds them, of the same start of the server or of the next
one, and the driver counts what was lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from agent.files import written_whole
from server.cluster.messages import Answered, Setup
from server.ipc import inflight
from server.ipc.inflight import InFlightCounters

PROCESSES = "processes"
"""Beside them: of each process that the actor has started its launch and made (as Setup has them),
its process ID, and when it began."""

END_S = 5.0
"""How long a process that is killed may take to end."""

WHOSE = "whose.json"
"""Beside the counters: of which actor they are, and of which process of each gateway."""


def begin_counting(
    folder: Path, setup: Setup, generations: Mapping[int, int], everywhere: int
) -> InFlightCounters:
    """Count anew. `folder`: of this node on this machine. `generations`: of its own gateways, of so
    many `everywhere`, as `note_whose` has them. Errors: OSError."""
    counters = InFlightCounters(folder / inflight.FILE, 0, everywhere)
    note_whose(folder, setup, generations)
    return counters


def note_whose(folder: Path, setup: Setup, generations: Mapping[int, int]) -> None:
    """Write down whose the counters are. `generations`: by gateway, which of its processes counts.
    By it the driver knows whether they still hold what it has counted as lost. Errors: OSError."""
    whose = {"launch": setup.launch, "made": setup.made, "generations": generations}
    with written_whole(folder / WHOSE) as file:
        file.write(json.dumps(whose).encode())


def read_left(folder: Path) -> dict[int, Answered]:
    """What there is in a node's folder, by gateway; nothing where it was not written whole."""
    try:
        whose = json.loads((folder / WHOSE).read_bytes())
        launch, made = int(whose["launch"]), int(whose["made"])
        left = {}
        for gateway, generation in whose["generations"].items():
            steps, frames = inflight.cells(folder / inflight.FILE, int(gateway)).tolist()
            left[int(gateway)] = Answered(launch, made, steps, frames, int(generation))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return left


def note_process(folder: Path, setup: Setup, pid: int) -> None:
    """Another process runs that counts there."""
    with contextlib.suppress(OSError), (folder / PROCESSES).open("a") as file:
        file.write(f"{setup.launch} {setup.made} {pid} {_began(pid)}\n")


def end_left(folder: Path, setup: Setup, *, own: bool) -> None:
    """End what actors before have left running: it would go on counting. `own`: the folder is this
    node's, and not that of another node, which may be alive."""
    try:
        lines = [line.split() for line in (folder / PROCESSES).read_text().splitlines()]
    except OSError:
        return
    doomed: list[tuple[int, str]] = []
    for launch, made, number, began in lines:
        before = int(launch) != setup.launch or (own and int(made) < setup.made)
        if before and _began(int(number)) == began != "":
            doomed.append((int(number), began))
    for pid, _ in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + END_S
    while any(_began(pid) == began for pid, began in doomed) and time.monotonic() < deadline:
        time.sleep(0.01)
    if own:
        (folder / PROCESSES).unlink(missing_ok=True)


def _began(pid: int) -> str:
    """When a process began, by the system's count; empty where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
