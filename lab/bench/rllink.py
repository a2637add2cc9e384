"""Bench beside RLlib's external environments over TCP (RLlink): the same observation and network,
for 1, 8 and 32 clients, both while they train."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lab.bench.serving import bench_server
from lab.load.clients import bench_spec
from lab.load.generator import LoadResult, load_process
from lab.load.process import LoadProcess
from lab.local_ray import QUIET, in_own_network

CLIENTS = (1, 8, 32)
HIDDEN = (512, 512, 256)
FLOATS, ACTIONS = 195, 44
SIDE = Path(__file__).parents[2] / "scripts/rllink_side.py"
LONGEST_S = 600.0


def measure(
    python: str, show: Callable[[str], None], *, seconds: int, clients: tuple[int, ...] = CLIENTS
) -> Iterator[dict[str, Any]]:
    """A row for each number of clients. `python`: one that has ray[rllib]. What of theirs does not
    run is a row with its message."""
    for many in clients:
        show(f"cluster, {many} clients, RLlink beside")
        ours = _ours(many, seconds)
        row: dict[str, Any] = {
            "case": "cluster",
            "what": "rllink",
            "clients": many,
            "fps": round(ours.fps),
            "p50_ms": round(ours.p50_ms, 2),
            "p99_ms": round(ours.p99_ms, 2),
        }
        theirs = _theirs(python, many, seconds)
        if fps := theirs.get("fps"):
            row["fps_of_rllink"] = round(ours.fps / fps, 2)
        yield row | {f"rllink_{name}": value for name, value in theirs.items()}


def _ours(many: int, seconds: float) -> LoadResult:
    with bench_server({"learner.hidden": list(HIDDEN)}) as server:
        address = ("127.0.0.1", server.port)
        spec = bench_spec(FLOATS, ACTIONS)
        with LoadProcess(load_process, address, spec, many, seconds, warmup_s=2.0) as process:
            result: LoadResult = process.receive(meanwhile=lambda: server.poll(0.1))
    return result


def _theirs(python: str, many: int, seconds: int) -> dict[str, Any]:
    words = [many, seconds, FLOATS, ACTIONS, *HIDDEN]
    # In a network of its own, its loopback up: Ray listens on all interfaces.
    shell = 'ip link set lo up 2>/dev/null; exec "$@"'
    command = [*in_own_network(), "sh", "-c", shell, "sh", python, str(SIDE), *map(str, words)]
    environment = QUIET | {
        "RAY_AUTH_MODE": "disabled",
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/tmp",
    }
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=LONGEST_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no figure within {LONGEST_S:g} s"}
    lines = ran.stdout.strip().splitlines()
    if ran.returncode or not lines:
        said = (ran.stderr.strip().splitlines() or [f"ended with {ran.returncode}"])[-1]
        return {"error": said}
    found: dict[str, Any] = json.loads(lines[-1])
    return found
