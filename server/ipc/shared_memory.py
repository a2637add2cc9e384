"""Shared memory between the processes of one server, and the barrier that orders it."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from agent.files import written_whole

FILE = "shared-memory"
"""In a run's folder: the names of what its server has."""

_PREFIX = "psm_"
"""Of the names that Python gives."""

_FOLDER = "folder:"
"""What the first line of the file begins with."""

_SHM = Path("/dev/shm")

_fence_lock = threading.Lock()


def create(size: int, name: str | None = None) -> SharedMemory:
    """New shared memory of `size` bytes, zeroed; of this name, which nobody must have, or of one
    that nobody has.

    It is taken at once. Otherwise it would be taken when it is touched, and a process that finds
    none left then dies of SIGBUS. Errors: MemoryError if the system has no room for it.
    """
    memory = SharedMemory(name, create=True, size=size)
    file = _SHM / memory.name
    if not file.exists():  # a system that keeps it elsewhere, and cannot be asked
        return memory
    try:
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, size)
    except OSError:
        memory.close()
        memory.unlink()
        free = shutil.disk_usage(_SHM).free
        raise MemoryError(
            f"expected {size / 1e6:.0f} MB of shared memory, {free / 1e6:.0f} MB are free in "
            f"{_SHM}; lower server.ring_steps, or give the container more (docker: --shm-size)"
        ) from None
    return memory


def remove(name: str) -> None:
    """Remove shared memory of this name, if there is any, whatever state it is in."""
    (_SHM / name).unlink(missing_ok=True)


def note(folder: Path, names: Iterable[str]) -> None:
    """Write down in a run's folder what there is, for `remove_left`. What cannot be written is not
    said: it costs memory only where all processes are killed at once."""
    with contextlib.suppress(OSError), written_whole(folder / FILE) as file:
        lines = (_identity(folder), *names)
        file.write("".join(f"{line}\n" for line in lines).encode())


def remove_left(folder: Path) -> int:
    """Remove what the last server of this run has left, whose processes were all killed at once;
    how many bytes. A process that still has some of it open keeps it. In a copy of a run's folder
    nothing is removed: the server of the run itself may still use it."""
    freed = 0
    with contextlib.suppress(OSError):
        first, *names = (folder / FILE).read_text().split() or [""]
        if not first.startswith(_FOLDER):  # an earlier revision began with the names
            names = [first, *names]
        elif first != _identity(folder):
            names = []
        for name in names:
            file = _SHM / Path(name.lstrip("/")).name
            if file.name.startswith(_PREFIX) and file.exists():
                freed += file.stat().st_size
                remove(file.name)
        (folder / FILE).unlink()
    return freed


def _identity(folder: Path) -> str:
    """What a folder has that no copy of it has, in one word. Errors: OSError."""
    status = folder.stat()
    return f"{_FOLDER}{status.st_dev}:{status.st_ino}"


def fence() -> None:
    """Order memory: what was written before is seen before what is written after.

    Taking a lock is an atomic read-modify-write with acquire and release, the one such barrier that
    Python has. x86-64 would not need it between two stores; 64-bit Arm does.
    """
    with _fence_lock:
        pass
