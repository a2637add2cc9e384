"""Shared memory between the processes of one server, and the barrier that orders it."""

from __future__ import annotations

import shutil
import threading
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

_SHM = Path("/dev/shm")

_fence_lock = threading.Lock()


def create(size: int) -> SharedMemory:
    """New shared memory of `size` bytes, zeroed.

    Errors: MemoryError if the system's shared memory has no room. It has to be asked beforehand:
    the memory is only taken when it is touched, and then the process would die of SIGBUS.
    """
    if _SHM.is_dir() and (free := shutil.disk_usage(_SHM).free) < size:
        raise MemoryError(
            f"expected {size / 1e6:.0f} MB of shared memory, {free / 1e6:.0f} MB are free in "
            f"{_SHM}; lower server.ring_steps, or give the container more (docker: --shm-size)"
        )
    return SharedMemory(create=True, size=size)


def fence() -> None:
    """Order memory: what was written before is seen before what is written after.

    Taking a lock is an atomic read-modify-write with acquire and release, the one such barrier that
    Python has. x86-64 would not need it between two stores; 64-bit Arm does.
    """
    with _fence_lock:
        pass
