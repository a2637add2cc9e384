"""Processes and shared memory as the system shows them, for tests that look for what is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path


def living_memory(names: Iterable[str]) -> set[str]:
    """Of these names of shared memory, those that still exist."""
    return {name for name in names if Path("/dev/shm", name.lstrip("/")).exists()}


def descendants(pid: int) -> list[int]:
    """The living processes below this one. Left out are two of multiprocessing, which outlive their
    first user by design: the tracker of shared memory, and the process that forks others."""
    found: list[int] = []
    for child in children(pid):
        if "resource_tracker" not in command_of(child) and not forks_for(child, pid):
            found.append(child)
        found += descendants(child)
    return found


def children(pid: int) -> list[int]:
    out: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            out += [int(word) for word in path.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [child for child in out if not is_zombie(child)]


def forks_for(pid: int, parent: int) -> bool:
    """Whether this is the process of multiprocessing that forks others for its parent. Those that
    it has forked have its command, but for those that run a command of understudy
    (tests.support.preloaded): they say in their name which they are."""
    return "forkserver" in _role(pid) and "forkserver" not in _role(parent)


def _role(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return name if name in ("understudy", "forkserver") else command_of(pid)


def everything_below(pid: int) -> list[int]:
    """All living processes below this one."""
    return [each for child in children(pid) for each in (child, *everything_below(child))]


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def end(pid: int) -> None:
    """Kill one process that a test has started, if it still lives."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
