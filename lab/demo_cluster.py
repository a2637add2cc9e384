"""`scripts/demo-cluster`: a Ray cluster of two nodes on this machine, two learners, and the demo's
game on both gateway nodes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from lab.supervised import supervised
from server.cluster.start import on_cluster

PORT = 6379
CLIENTS = 4
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


def main() -> int:
    frames = int(os.environ.get("DEMO_FRAMES", "20000"))
    os.environ.update(QUIET)
    if shutil.which("ip"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
    with tempfile.TemporaryDirectory(prefix="ray-") as folder, ExitStack() as stack:
        _start_ray(Path(folder), stack)
        make = on_cluster(f"127.0.0.1:{PORT}")
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


def _start_ray(folder: Path, stack: ExitStack) -> None:
    """A head and one more node, ended with `stack`."""
    ray = Path(sys.executable).parent / "ray"
    common = ["--node-ip-address", "127.0.0.1", "--num-cpus", "2", "--disable-usage-stats",
              "--object-store-memory", "200000000", "--block"]  # fmt: skip
    first = ["start", "--head", "--port", str(PORT), "--include-dashboard=false",
             "--temp-dir", str(folder)]  # fmt: skip
    for words in (first, ["start", "--address", f"127.0.0.1:{PORT}"]):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([str(ray), *words, *common], **quiet)  # type: ignore[call-overload]
        stack.callback(_end, process)
        time.sleep(8.0)  # until the head knows of itself


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)  # with --block, ray ends what it has started
    try:
        process.wait(20.0)
    except subprocess.TimeoutExpired:
        process.kill()


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
