"""`scripts/demo-cluster`: a Ray cluster of two nodes on this machine, two learners, and the demo's
game on both gateway nodes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack

from lab.local_ray import ADDRESS, local_ray
from lab.supervised import supervised
from server.cluster.start import on_cluster

CLIENTS = 4


def main() -> int:
    frames = int(os.environ.get("DEMO_FRAMES", "20000"))
    with local_ray(nodes=2), ExitStack() as stack:
        make = on_cluster(ADDRESS)
        values = {
            "server.port": 0,
            "cluster.gateways": 2,
            "cluster.learners": 2,
            "cluster.start_timeout_s": 120.0,
            "metrics.every_s": 1.0,
        }
        with supervised(values, make=make) as supervisor:
            while not supervisor.status.nodes:
                supervisor.poll()
            ports = [node["port"] for node in supervisor.status.nodes if "port" in node]
            print(f"gateway nodes on ports {ports}; two learners", flush=True)
            games = [_games(port, frames // len(ports)) for port in ports]
            for game in games:
                stack.callback(game.kill)
            shown = time.monotonic()
            while any(game.poll() is None for game in games):
                supervisor.poll()
                if time.monotonic() - shown > 5.0:
                    shown = time.monotonic()
                    print(_line(supervisor.last, supervisor.status.nodes), flush=True)
            supervisor.settle()
            print(_line(supervisor.last, supervisor.status.nodes))
            return max(game.returncode for game in games)


def _games(port: int, frames: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "server", "play", "--connect", f"127.0.0.1:{port}",
               "--clients", str(CLIENTS), "--frames", str(frames)]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _line(last: object, nodes: object) -> str:
    assert isinstance(last, dict)
    assert isinstance(nodes, list)
    numbers = {name: last.get(name, float("nan")) for name in _SHOWN}
    told = "  ".join(f"{name} {value:,.1f}" for name, value in numbers.items())
    waiting = sum(node.get("unacknowledged", 0) for node in nodes)
    return f"{told}  unacknowledged {waiting}"


_SHOWN = ("frames", "updates", "answers_per_s", "episode_return_mean")

if __name__ == "__main__":
    raise SystemExit(main())
