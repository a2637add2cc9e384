"""A Ray cluster on this machine, in a network of its own: on loopback Ray would take the address of
an interface, and its services would be reachable there."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
PORT = 6399
ADDRESS = f"127.0.0.1:{PORT}"
START_S = 240.0

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "PYTHONPATH": str(Path.cwd())}


def can_run() -> str:
    """Why there can be none here; empty if there can."""
    if find_spec("ray") is None:
        return "install the extra cluster"
    if not (shutil.which("unshare") and shutil.which("nsenter") and shutil.which("ip")):
        return "install util-linux and iproute2"
    tried = subprocess.run(["unshare", "-n", "true"], capture_output=True)
    return "run as root: a network of its own is needed" if tried.returncode else ""


class RayCluster:
    """A head, and more nodes."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "-n", "sleep", "100000"])
        self._env = os.environ | QUIET
        self._env.pop("RAY_ADDRESS", None)

    def start(self, folder: Path, nodes: int) -> None:
        """Start so many nodes. `folder`: of Ray's files."""
        network = Path(f"/proc/{self._holder.pid}/ns/net")
        own = Path("/proc/self/ns/net").readlink()
        deadline = time.monotonic() + START_S
        while network.readlink() == own and time.monotonic() < deadline:
            time.sleep(0.01)
        self.run("ip", "link", "set", "lo", "up")
        common = (
            "--node-ip-address", "127.0.0.1", "--num-cpus", "2",
            "--object-store-memory", "100000000", "--disable-usage-stats",
        )  # fmt: skip
        self.run(
            str(BIN / "ray"), "start", "--head", "--port", str(PORT),
            "--include-dashboard=false", "--temp-dir", str(folder), *common,
        )  # fmt: skip
        for _ in range(nodes - 1):
            self._join(deadline, *common)

    def _join(self, deadline: float, *common: str) -> None:
        """Start one more node. The head may be busy still, and know nothing of itself."""
        while True:
            try:
                self.run(str(BIN / "ray"), "start", "--address", ADDRESS, *common)
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def popen(self, *command: str, **options: object) -> subprocess.Popen[str]:
        """Start a command in the cluster's network."""
        inside = ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *command]
        return subprocess.Popen(inside, env=self._env, text=True, **options)  # type: ignore[call-overload, no-any-return]

    def run(self, *command: str, timeout_s: float = START_S) -> str:
        """Run a command there; what it printed. Errors: CalledProcessError."""
        process = self.popen(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            text, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            text, _ = process.communicate()
            raise AssertionError(f"{command} took longer than {timeout_s:g} s: {text}") from None
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, text)
        return text

    def close(self) -> None:
        """End all processes of this network, by id, and the network."""
        network = str(Path(f"/proc/{self._holder.pid}/ns/net").readlink())
        for _ in range(3):
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit() and int(entry.name) != self._holder.pid:
                    with contextlib.suppress(OSError):
                        if str((entry / "ns" / "net").readlink()) == network:
                            os.kill(int(entry.name), signal.SIGKILL)
            time.sleep(0.1)
        self._holder.kill()
        self._holder.wait()


@contextlib.contextmanager
def ray_cluster(nodes: int) -> Iterator[RayCluster]:
    """A cluster of so many nodes; skipped where there can be none."""
    if why := can_run():
        pytest.skip(why)
    cluster = RayCluster()
    # Ray's sockets are in there, whose paths may have 107 bytes: pytest's folders are too deep.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        try:
            cluster.start(Path(folder), nodes)
            yield cluster
        finally:
            cluster.close()
