from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from agent.memory_limits import free_bytes, memory_bytes

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
NONE_1 = "9223372036854771712"
"""What version 1 says where there is no limit."""


def groups(root: Path, lines: str, **limits: str) -> Path:
    """A system with these groups: what the process is in, and the limits by their files."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)
    for name, text in limits.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("lines", "limits"),
    [
        ("0::/\n", {"memory.max": "1000000\n"}),
        ("0::/a/b\n", {"a/b/memory.max": "1000000\n"}),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "1000000", "memory.max": "max"}),
        ("0::/a/b\n", {"a/b/memory.max": "2000000\n", "a/memory.max": "1000000"}),
        ("0::/a/b\n", {"a/b/memory.max": "1000000\n", "a/memory.max": "2000000"}),
        ("0::/../other\n", {"memory.max": "1000000\n"}),
        ("3:cpu:/x\n0::/a\n", {"unified/a/memory.max": "1000000"}),
        (
            "5:cpu,cpuacct:/x\n4:memory:/docker/1\n0::/\n",
            {"memory/docker/1/memory.limit_in_bytes": "1000000",
             "memory/memory.limit_in_bytes": NONE_1},
        ),
        ("4:memory:/a/b\n", {"memory/a/b/memory.limit_in_bytes": NONE_1,
                             "memory/a/memory.limit_in_bytes": "1000000"}),
        # In a container the group's own folder is the top, whatever its name outside is.
        ("4:memory:/docker/1\n", {"memory/memory.limit_in_bytes": "1000000"}),
        ("", {"memory.max": "1000000"}),
    ],
)  # fmt: skip
def test_memory_is_the_least_that_any_group_around_the_process_allows(
    lines: str, limits: dict[str, str], tmp_path: Path
) -> None:
    assert memory_bytes(groups(tmp_path, lines, **limits)) == 1_000_000


@pytest.mark.parametrize("lines", ["0::/a\n", "0::/../..\n", "", "1:name=systemd:/\n"])
def test_memory_without_any_limit_is_the_machines(lines: str, tmp_path: Path) -> None:
    own = [resource.getrlimit(each)[0] for each in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    assert own == [resource.RLIM_INFINITY] * 2, "these tests expect no ulimit -v"
    assert memory_bytes(groups(tmp_path, lines)) == MACHINE
    assert memory_bytes(tmp_path / "nothing") == MACHINE


@pytest.mark.parametrize("which", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_memory_of_a_process_with_a_limit_of_its_own_is_that(which: str) -> None:
    """As with ulimit -v, and -d."""
    limit = 1_500_000_000
    program = (
        f"import resource; resource.setrlimit(resource.{which}, ({limit}, resource.RLIM_INFINITY));"
        "from agent.memory_limits import memory_bytes; print(memory_bytes())"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(said.stdout) == limit


def test_free_memory_is_what_the_system_says_is_available(tmp_path: Path) -> None:
    groups(tmp_path, "0::/a\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  2048 kB\nX: 1 kB\n")
    assert free_bytes(tmp_path) == 2048 * 1024
    assert free_bytes(tmp_path / "nothing") == MACHINE


def test_free_memory_of_a_group_is_its_limit_less_what_programs_hold(tmp_path: Path) -> None:
    limits = {"a/memory.max": "1000000\n", "a/memory.current": "900000\n"}
    groups(tmp_path, "0::/a\n", **limits, **{"a/memory.stat": "anon 5\ninactive_file 300000\n"})
    assert free_bytes(tmp_path) == 400_000
    (tmp_path / "sys/fs/cgroup/a/memory.current").write_text("2000000\n")
    assert free_bytes(tmp_path) == 0
    (tmp_path / "sys/fs/cgroup/a/memory.stat").unlink()
    assert free_bytes(tmp_path) == 1_000_000
