"""Ray nodes on this machine, each in a network of its own (a namespace), with cables to a switch
that can be cut: what stands for several machines.

On loopback Ray would take the address of an interface, and its services would be reachable there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from lab.local_ray import QUIET, START_S

BIN = Path(sys.executable).parent
PORT = 6399
HOSTS = "10.77.0.1", "10.77.0.2"
"""Of the nodes, the head first."""
ADDRESS = f"{HOSTS[0]}:{PORT}"
SWITCH = "CHAOS_SWITCH"
"""The variable that names the switch's network, for programs that run in a node's."""


def cannot() -> str:
    """Why there can be none here; empty if there can."""
    if find_spec("ray") is None:
        return "install the extra cluster"
    if not (shutil.which("unshare") and shutil.which("nsenter") and shutil.which("ip")):
        return "install util-linux and iproute2"
    tried = subprocess.run(["unshare", "-n", "true"], capture_output=True)
    return "run as root: a network of its own is needed" if tried.returncode else ""


class RayNodes:
    """A head, and at most one more node."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """`environment`: variables of Ray beside those of this process."""
        *self._holders, self._switch = (
            subprocess.Popen(["unshare", "-n", "sleep", "100000"]) for _ in range(len(HOSTS) + 1)
        )
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._env = (
            os.environ | QUIET | {"PYTHONPATH": str(Path.cwd())} | token | dict(environment or {})
        )
        self._env[SWITCH] = str(_network(self._switch))
        self._env.pop("RAY_ADDRESS", None)

    def start(self, folder: Path) -> None:
        """Start the nodes. `folder`: of Ray's files. Errors: CalledProcessError, AssertionError."""
        deadline = time.monotonic() + START_S
        own = Path("/proc/self/ns/net").readlink()
        for holder in (*self._holders, self._switch):
            while _network(holder).readlink() == own and time.monotonic() < deadline:
                time.sleep(0.01)
        _ip(self._switch, "link add switch type bridge")
        _ip(self._switch, "link set switch up")
        for port, (host, holder) in enumerate(zip(HOSTS, self._holders, strict=True)):
            other = f"peer name cable netns {holder.pid}"
            _ip(self._switch, f"link add port{port} type veth {other}")
            _ip(self._switch, f"link set port{port} master switch")
            _ip(self._switch, f"link set port{port} up")
            _ip(holder, "link set lo up")
            _ip(holder, f"address add {host}/24 dev cable")
            _ip(holder, "link set cable up")
        common = (
            "--num-cpus", "2", "--object-store-memory", "100000000", "--disable-usage-stats",
        )  # fmt: skip
        at_head = (
            "--head", "--port", str(PORT), "--include-dashboard=false", "--temp-dir", str(folder),
        )  # fmt: skip
        for node, where in enumerate((at_head, ("--address", ADDRESS))):
            words = (*where, "--node-ip-address", HOSTS[node], *common)
            while True:
                try:
                    self.run(str(BIN / "ray"), "start", *words, node=node)
                except subprocess.CalledProcessError:
                    # A raylet whose agent takes more than 15 s to start ends; and the head may be
                    # busy still, and know nothing of itself.
                    if time.monotonic() > deadline:
                        raise
                    self._end_all(node)
                else:
                    break

    def popen(self, *command: str, node: int = 0, **options: object) -> subprocess.Popen[str]:
        """Start a command in a node's network."""
        inside = ["nsenter", f"--net={_network(self._holders[node])}", *command]
        return subprocess.Popen(inside, env=self._env, text=True, **options)  # type: ignore[call-overload, no-any-return]

    def run(self, *command: str, timeout_s: float = START_S, node: int = 0) -> str:
        """Run a command there; what it printed. Errors: CalledProcessError."""
        process = self.popen(*command, node=node, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            text, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            text, _ = process.communicate()
            raise AssertionError(f"{command} took longer than {timeout_s:g} s: {text}") from None
        if process.returncode:
            error = subprocess.CalledProcessError(process.returncode, command, text)
            error.add_note(text[-2000:])
            raise error
        return text

    def _end_all(self, node: int) -> None:
        """End all processes of a node's network, by id."""
        network = str(_network(self._holders[node]).readlink())
        for _ in range(3):
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit() and int(entry.name) != self._holders[node].pid:
                    with contextlib.suppress(OSError):
                        if str((entry / "ns" / "net").readlink()) == network:
                            os.kill(int(entry.name), signal.SIGKILL)
            time.sleep(0.1)

    def close(self) -> None:
        """End all processes of these networks, and the networks."""
        for node in range(len(HOSTS)):
            self._end_all(node)
        for holder in (*self._holders, self._switch):
            holder.kill()
            holder.wait()


@contextlib.contextmanager
def ray_nodes(environment: Mapping[str, str] | None = None) -> Iterator[RayNodes]:
    """Two nodes that run. Errors: as of start."""
    nodes = RayNodes(environment)
    # Ray's sockets are in there, whose paths may have 107 bytes: a test's folders are too deep.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        try:
            nodes.start(Path(folder))
            yield nodes
        finally:
            nodes.close()


def can_cut() -> bool:
    """Whether this program runs in a node's network, whose switch is known."""
    return Path(os.environ.get(SWITCH, "-")).exists()


def cut(seconds: float) -> None:
    """Cut the cable of the node that is not the head, for so long. Errors: CalledProcessError."""
    inside = ["nsenter", f"--net={os.environ[SWITCH]}", "ip", "link", "set", "port1"]
    subprocess.run([*inside, "down"], check=True)
    try:
        time.sleep(seconds)
    finally:
        subprocess.run([*inside, "up"], check=True)


def _network(holder: subprocess.Popen[bytes]) -> Path:
    return Path(f"/proc/{holder.pid}/ns/net")


def _ip(holder: subprocess.Popen[bytes], words: str) -> None:
    subprocess.run(["nsenter", f"--net={_network(holder)}", "ip", *words.split()], check=True)
