"""How much memory the server may have, and how much of it is free: of the machine, its container or
control group, and the process's own limits (ulimit), whichever is least."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_OWN_LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_DATA)

_UNIFIED = ("sys/fs/cgroup", "sys/fs/cgroup/unified")
"""Where groups of version 2 are; the second beside those of version 1."""

_VERSION_1 = "sys/fs/cgroup/memory"


def memory_bytes(root: Path = Path("/")) -> int:
    """The memory that a process of this server may have at most. `root`: where proc and sys are."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    own = (resource.getrlimit(which)[0] for which in _OWN_LIMITS)
    limits = [limit for limit in own if limit != resource.RLIM_INFINITY]
    return min([machine, *limits, *_group_limits(root)])


def free_bytes(root: Path = Path("/")) -> int:
    """The memory that is free for a process of this server: what programs hold is not, what files
    take in the system's cache is. `root`: as of `memory_bytes`."""
    found = [memory_bytes(root)]
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(1024 * int(available.split()[1]))
    except (OSError, StopIteration):  # a system that does not say
        pass
    for folder, limit in _limited_groups(root):
        try:
            used = next(
                int((folder / name).read_text())
                for name in ("memory.current", "memory.usage_in_bytes")
                if (folder / name).exists()
            )
            held = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            cached = int(held.get("inactive_file", held.get("total_inactive_file", 0)))
        except (OSError, ValueError, StopIteration):  # it does not say what it uses
            continue
        found.append(max(limit - used + cached, 0))
    return min(found)


def _group_limits(root: Path) -> Iterator[int]:
    """The limits of the process's control group, and of all groups around it: each holds."""
    for _, limit in _limited_groups(root):
        yield limit


def _limited_groups(root: Path) -> Iterator[tuple[Path, int]]:
    """The folder of each of these groups that has a limit, and the limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # a system without them
        lines = []
    # Without a line, and within a container, a group's own folder may be the top.
    groups = [(base, "memory.max", "/") for base in _UNIFIED]
    groups.append((_VERSION_1, "memory.limit_in_bytes", "/"))
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            groups += [(base, "memory.max", path) for base in _UNIFIED]
        elif "memory" in controllers.split(","):
            groups.append((_VERSION_1, "memory.limit_in_bytes", path))
    for base, name, path in groups:
        # A path that leads out of what is mounted here begins with `..`; its end may still be here.
        inner = PurePosixPath(*(part for part in path.split("/") if part not in ("", "..")))
        for group in (inner, *inner.parents):
            try:
                yield root / base / group, int((root / base / group / name).read_text())
            except (OSError, ValueError):  # there is none, or it has no limit
                continue
