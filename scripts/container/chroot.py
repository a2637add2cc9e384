"""A root folder with processes in it that see nothing else: what a container engine would make,
from `unshare`, `mount`, `chroot` and `setpriv`.

Mounts are made in a mount namespace of the processes' own, so they are gone when the last of them
is; and the first one is the first of a process namespace, so all others end with it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

# What `ip link set lo up` does, where there is no `ip`.
LOOPBACK_UP = (
    "import fcntl, socket, struct; "
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH14x', b'lo', 0x41))"
)


class ChrootError(Exception):
    """A program in the chroot failed, or could not be started. The message has its output."""


def tool(name: str) -> str:
    """Where a program of the host is. Errors: ChrootError with the package to install."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        packages = {"debootstrap": "debootstrap", "chroot": "coreutils", "mount": "mount"}
        package = packages.get(name, "util-linux")
        raise ChrootError(f"expected {name} on this host; on Debian: apt-get install {package}")
    return found


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or folder of the host, seen in the chroot."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Chroot:
    """How the processes in a root are to live."""

    root: Path
    binds: Sequence[Bind] = ()
    tmpfs: Sequence[str] = ()
    shm_bytes: int = 64 << 20
    """What a container gets where nothing else is said."""
    read_only: bool = False
    user: str = "root"
    folder: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)
    no_capabilities: bool = False
    no_new_privileges: bool = False

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def place_mounts(self) -> list[Path]:
        """Make what will be mounted over; the files and folders that were not there before."""
        made: list[Path] = []
        for target, folder in [
            *((one.target, one.source.is_dir()) for one in self.binds),
            *((target, True) for target in (*self.tmpfs, "/proc", "/dev")),
        ]:
            place = self._inside(target)
            for parent in reversed(place.parents):
                if not parent.exists():
                    parent.mkdir()
                    made.append(parent)
            if not place.exists():
                if folder:
                    place.mkdir()
                else:
                    place.touch()
                made.append(place)
        return made

    def _setup(self) -> str:
        """A shell's commands that mount everything, as root of new namespaces."""
        mount, root = tool("mount"), str(self.root)
        lines: list[list[str]] = [
            [mount, "--make-rprivate", "/"],
            [mount, "--bind", root, root],
            # At once, while nobody has anything open there; what comes over it can be written to.
            *([[mount, "-o", "remount,bind,ro", root]] if self.read_only else []),
            [mount, "-t", "proc", "proc", f"{root}/proc"],
            [mount, "-t", "tmpfs", "-o", "mode=755", "dev", f"{root}/dev"],
            [tool("mkdir"), f"{root}/dev/shm"],
            [mount, "-t", "tmpfs", "-o", f"mode=1777,size={self.shm_bytes}", "shm",
             f"{root}/dev/shm"],
            [tool("ln"), "-s", "/proc/self/fd", f"{root}/dev/fd"],
        ]  # fmt: skip
        for name in DEVICES:
            lines.append([tool("touch"), f"{root}/dev/{name}"])
            lines.append([mount, "--bind", f"/dev/{name}", f"{root}/dev/{name}"])
        for target in self.tmpfs:
            lines.append([mount, "-t", "tmpfs", "-o", "mode=1777", "tmp", f"{root}{target}"])
        for one in self.binds:
            lines.append([mount, "--bind", str(one.source), f"{root}{one.target}"])
            if one.read_only:
                lines.append([mount, "-o", "remount,bind,ro", f"{root}{one.target}"])
        return "set -eu\n" + "\n".join(shlex.join(line) for line in lines)

    def _enter(self, words: Sequence[str]) -> list[str]:
        """The command that goes into the root, gives up privileges, and becomes `words`."""
        uid, gid = self.ids()
        drop = ["/usr/bin/setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
        if self.no_capabilities:
            drop += ["--bounding-set=-all", "--inh-caps=-all"]
        if self.no_new_privileges:
            drop += ["--no-new-privs"]
        at = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', self.folder]
        return [tool("chroot"), str(self.root), *drop, *at, *words]

    def ids(self) -> tuple[int, int]:
        """uid and gid of the user, from the root's own list of users."""
        for line in self._inside("/etc/passwd").read_text().splitlines():
            name, _, uid, gid, *_ = line.split(":")
            if self.user in (name, uid):
                return int(uid), int(gid)
        raise ChrootError(f"USER {self.user}: there is no such user in {self.root}")

    def run(self, words: Sequence[str]) -> None:
        """Run to the end, with the host's network; output goes where this process's goes.

        Errors: ChrootError if the exit code is not 0.
        """
        made = self.place_mounts()
        try:
            spaces = [tool("unshare"), "--mount", "--pid", "--fork", "--kill-child"]
            script = f"{self._setup()}\nexec {shlex.join(self._enter(words))}"
            code = subprocess.call([*spaces, "/bin/sh", "-c", script], env=dict(self.environment))
        finally:
            for place in reversed(made):  # an image has no traces of this host
                if place.is_dir():
                    if not any(place.iterdir()):
                        place.rmdir()
                elif place.stat().st_size == 0:
                    place.unlink()
        if code:
            raise ChrootError(f"exit code {code}: {shlex.join(words)}")

    def start(self, words: Sequence[str], log: Path, beside: Started | None = None) -> Started:
        """Start with a network of its own, or that of another: loopback and nothing else."""
        self.place_mounts()
        script = self._setup()
        spaces = [tool("unshare"), "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        if beside is None:
            spaces.append("--net")
            script += "\n" + shlex.join([sys.executable, "-c", LOOPBACK_UP])
        else:
            spaces = [tool("nsenter"), f"--target={beside.first}", "--net", *spaces]
        script += f"\nexec {shlex.join(self._enter(words))}"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*spaces, "/bin/sh", "-c", script], env=dict(self.environment),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return Started(self, process, log)


class Started:
    """A process in a chroot, the first of its process namespace."""

    def __init__(self, chroot: Chroot, process: subprocess.Popen[bytes], log: Path) -> None:
        self.chroot = chroot
        self.process = process
        self.log = log
        self.first = self._first()

    def _first(self) -> int:
        """The first process's number, as the host sees it: the child of `unshare`.

        It is there once it has mounted everything and gone into its root: who looks in earlier
        finds it half made.
        """
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for _ in range(200):
            if self.process.poll() is not None:
                break
            with suppress(FileNotFoundError):  # one of the two has just ended
                found = children.read_text().split()
                if found and self.chroot.root.samefile(f"/proc/{found[0]}/root"):
                    return int(found[0])
            time.sleep(0.05)
        self.process.kill()
        raise ChrootError(f"it did not start:\n{self.said()}")

    def said(self, lines: int = 30) -> str:
        """The end of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def execute(self, words: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run something beside it, as the same user, in the same chroot. 124: it took too long."""
        spaces = ["--mount", "--pid", "--uts", "--ipc", "--net"]
        command = [tool("nsenter"), f"--target={self.first}", *spaces, *self.chroot._enter(words)]
        try:
            return subprocess.run(
                command, env=dict(self.chroot.environment), stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=timeout_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"no end after {timeout_s:g} s")

    def stop(self, grace_s: float) -> tuple[int | None, float]:
        """SIGTERM to the first process: (exit code, or None if it had to be killed; seconds)."""
        began = time.monotonic()
        if self.process.poll() is None:
            os.kill(self.first, signal.SIGTERM)
        try:
            return self.process.wait(grace_s), time.monotonic() - began
        except subprocess.TimeoutExpired:
            self.kill()
            return None, time.monotonic() - began

    def kill(self) -> None:
        """End it and all that it started, whatever they do."""
        if self.process.poll() is None:
            # The first process, for the kernel ends all others of its namespace with it. `unshare`
            # would not pass this on: who changes its user no longer dies with its parent.
            with suppress(ProcessLookupError):
                os.kill(self.first, signal.SIGKILL)
        self.process.wait()
