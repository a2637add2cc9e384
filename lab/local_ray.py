"""A Ray cluster of this machine, for programs of the lab: some nodes on loopback."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PORT = 6379
ADDRESS = f"127.0.0.1:{PORT}"

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    # On a machine that is busy.
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
}
"""The environment of Ray, and of what it starts: it tells nobody, and nothing of it is slowed."""

START_S = 240.0
END_S = 20.0
_STARTED = "Ray runtime started"


def in_own_network() -> list[str]:
    """The begin of a command that is to run in a network of its own; empty where that is not
    allowed: Ray then listens on this machine's interfaces."""
    if shutil.which("unshare") and shutil.which("ip"):
        tried = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
        if not tried.returncode:
            return ["unshare", "-n"]
    return []


class LocalRay:
    """A head that runs, and what was added to it."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self._home, self._stack = home, stack
        self._nodes = 0
        head = ["--head", "--port", str(PORT), "--include-dashboard=false"]
        self._start("head", [*head, "--temp-dir", str(home)])

    def add_node(self) -> None:
        """One more node, of two processors. Errors: RuntimeError where it does not start."""
        self._nodes += 1
        self._start(f"node-{self._nodes}", ["--address", ADDRESS])

    def _start(self, name: str, words: list[str]) -> None:
        _start(self._home / name, words, self._stack)


@contextmanager
def local_ray(nodes: int) -> Iterator[LocalRay]:
    """A cluster of so many nodes, of two processors each, whose head is at ADDRESS. Errors:
    RuntimeError where one does not start."""
    # A token that only what is started here knows. There may be one of the user: a head takes it,
    # and a node that joins does not.
    os.environ.update(QUIET | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    if shutil.which("ip"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=False, capture_output=True)
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        ExitStack() as stack,
    ):
        ray = LocalRay(Path(folder), stack)
        for _ in range(1, nodes):
            ray.add_node()
        yield ray


def _start(output: Path, words: list[str], stack: ExitStack) -> None:
    """Start a node, and have it end with `stack`. The head may be busy still, and know nothing of
    itself: then it is tried again."""
    ray = str(Path(sys.executable).parent / "ray")
    common = ["--node-ip-address", "127.0.0.1", "--num-cpus", "2", "--disable-usage-stats",
              "--object-store-memory", "200000000", "--block"]  # fmt: skip
    # A raylet that is to find its agents' ports gives up after 15 s.
    for agent, port in zip(
        ("dashboard-agent-grpc", "runtime-env-agent"), _free_ports(2), strict=True
    ):
        common += [f"--{agent}-port", str(port)]
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with output.open("w") as file:
            process = subprocess.Popen(
                [ray, "start", *words, *common],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},  # it is read while it runs
            )
        while process.poll() is None:
            if _STARTED in output.read_text():
                stack.callback(_end, process)
                return
            if time.monotonic() > deadline:
                _end(process)
                break
            time.sleep(0.2)
    raise RuntimeError(f"expected a Ray node to start within {START_S:g} s: {output.read_text()}")


def _free_ports(many: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(many)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)  # with --block, ray ends what it has started
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
