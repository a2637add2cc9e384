"""A node of a Ray cluster that runs on this machine: its processes, killed and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.proc import children, is_running
from lab.serve_process import wait_until

PROC = Path("/proc")

START_S = 240.0
"""For `ray start`, which is tried again."""


@dataclass(frozen=True)
class RayMachine:
    """What a raylet was started with."""

    raylet: int
    """Its process ID."""
    words: tuple[str, ...]
    """Its command line."""

    @property
    def host(self) -> str:
        """Its address."""
        return self._option("node_ip_address")

    @property
    def head(self) -> bool:
        """Whether the cluster's control store is beside it."""
        return "--head" in self.words

    def actors(self, name: str) -> list[int]:
        """Process IDs of the actors of a class, by its name, the oldest first."""
        found = (pid for pid in children(self.raylet) if _words(pid)[0].startswith(f"ray::{name}"))
        return sorted(found)

    def processes(self, name: str) -> list[int]:
        """Process IDs of what those actors have started: gateways, or trainers. They are forked by
        a process of their own."""
        servers = [fork for actor in self.actors(name) for fork in children(actor)]
        return sorted(pid for fork in servers for pid in children(fork) if is_running(pid))

    def kill(self, alone: bool) -> None:
        """Kill all of Ray's on this node; workers end with their raylet. `alone`: no other node
        shares its network. Errors: TimeoutError."""
        doomed = [self.raylet]
        with self.network() as network:
            for pid, said in self._beside(network, self._option("temp_dir")).items():
                if alone or (self.head and "gcs_server" in said):
                    doomed.append(pid)
        workers = children(self.raylet)
        _kill(doomed)
        wait_until(lambda: not any(map(is_running, workers)), "the workers of a raylet have ended")

    def start(self, network: str, environment: dict[str, str]) -> None:
        """Have it join the cluster again, or begin it where it is the head. Errors:
        CalledProcessError."""
        cpus = self._option("static_resource_list").split("CPU,")[1].split(",")[0]
        address = self._option("gcs-address")
        where = ["--head", "--port", address.rpartition(":")[2], "--include-dashboard=false",
                 "--temp-dir", self._option("temp_dir")]  # fmt: skip
        command = [
            "nsenter", f"--net={network}", str(Path(sys.executable).parent / "ray"), "start",
            *(where if self.head else ["--address", address]), "--node-ip-address", self.host,
            "--num-cpus", cpus, "--object-store-memory", self._option("object_store_memory"),
            "--disable-usage-stats",
        ]  # fmt: skip
        deadline = time.monotonic() + START_S
        while True:  # the machine, or the head, may be too busy for Ray's own limits
            tried = subprocess.run(command, env=environment, capture_output=True, text=True)
            if not tried.returncode:
                return
            _kill(self._beside(network, self._option("temp_dir")))
            if time.monotonic() > deadline:
                break
        error = subprocess.CalledProcessError(tried.returncode, command)
        error.add_note((tried.stdout + tried.stderr)[-2000:])
        raise error

    @contextlib.contextmanager
    def network(self) -> Iterator[str]:
        """A path to its network, also once nothing of it runs there."""
        file = os.open(PROC / str(self.raylet) / "ns/net", os.O_RDONLY)
        try:
            yield f"/proc/{os.getpid()}/fd/{file}"
        finally:
            os.close(file)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it was started with."""
        return _environment(self.raylet)

    def _beside(self, network: str, word: str) -> dict[int, str]:
        """The processes of a network with this in their command line, and the command line."""
        own = Path(network).readlink() if Path(network).is_symlink() else None
        found = {}
        for entry in PROC.iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    said = (entry / "cmdline").read_text(errors="replace")
                    if word in said and (entry / "ns/net").readlink() == own:
                        found[int(entry.name)] = said
        return found

    def _option(self, name: str) -> str:
        return next(w for w in self.words if w.startswith(f"--{name}=")).partition("=")[2]


def _kill(pids: Iterable[int]) -> None:
    for pid in dict.fromkeys(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def ray_machines(address: str) -> list[RayMachine]:
    """The nodes of the cluster at this address that run on this machine, the head first. `auto`: of
    whichever cluster there is."""
    found = []
    for entry in PROC.iterdir():
        words = _words(int(entry.name)) if entry.name.isdigit() else ("",)
        ours = address == "auto" or f"--gcs-address={address}" in words
        if words[0].endswith("/raylet/raylet") and ours and is_running(int(entry.name)):
            found.append(RayMachine(int(entry.name), words))
    return sorted(found, key=lambda each: (not each.head, each.raylet))


def _words(pid: int) -> tuple[str, ...]:
    try:
        return tuple((PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0"))
    except OSError:
        return ("",)


def _environment(pid: int) -> dict[str, str]:
    pairs = (PROC / str(pid) / "environ").read_text(errors="replace").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
