"""What /proc tells about a process: whether it runs, its memory, its open files."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

_GONE = (FileNotFoundError, ProcessLookupError)


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that has ended and was not waited for does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except _GONE:
        return False


def processor_s(pid: int) -> float:
    """Processor time that its main thread has used, s; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except _GONE:
        return 0.0


def processor_s_below(pid: int) -> float:
    """Processor time of a process, of all below it that still run, and of those of theirs that have
    ended, s."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except _GONE:
        return 0.0
    used = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return used + sum(map(processor_s_below, children(pid)))


def children(pid: int) -> list[int]:
    """The processes that a process has started; none where it has ended."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(n) for each in threads for n in (each / "children").read_text().split()]
    except _GONE:
        return []


def processor_s_of_threads(pid: int) -> float:
    """Processor time that all threads of a process have used, s; 0 where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except _GONE:
        return 0.0
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def in_this_network() -> dict[int, str]:
    """The processes of this one's network namespace: process ID to command line."""
    own = Path("/proc/self/ns/net").readlink()
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended, or is another user's
                if (entry / "ns/net").readlink() == own:
                    words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                    found[int(entry.name)] = b" ".join(words).decode(errors="replace")
    return found


def resident_bytes(pid: int) -> int:
    """All that a process has in memory, mapped files included; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except _GONE:
        return 0


def own_bytes(pid: int) -> int:
    """Memory that a process has touched for itself and of shared memory, without mapped files: how
    much of a library is in memory is up to the system. 0 where it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except _GONE:
        return 0
    return 1024 * sum(int(kib) for kib in re.findall(r"Rss(?:Anon|Shmem):\s+(\d+) kB", text))


def open_files(pid: int) -> int:
    """Its open file descriptors; 0 where it has ended."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except _GONE:
        return 0
