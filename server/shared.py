"""Shared memory between the processes of one server, and the barrier that orders it."""

from __future__ import annotations

import os
import shutil
import threading
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

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


def fence() -> None:
    """Order memory: what was written before is seen before what is written after.

    Taking a lock is an atomic read-modify-write with acquire and release, the one such barrier that
    Python has. x86-64 would not need it between two stores; 64-bit Arm does.
    """
    with _fence_lock:
        pass
