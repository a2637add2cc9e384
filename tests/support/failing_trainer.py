"""A trainer that fails with some games before it is ready: each game's name says how."""

from __future__ import annotations

import errno
import os
import signal
from typing import Any

import torch

from server.trainer import process as trainer_process
from server.trainer import trainer

WAYS = {
    "memory": MemoryError("Unable to allocate 15 GiB"),
    "bare memory": MemoryError(),
    "torch": RuntimeError("CPUAllocator: can't allocate memory: 8000 bytes\nat alloc_cpu.cpp"),
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 224 GiB"),
    "system memory": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "disk": OSError(errno.ENOSPC, "No space left on device"),
    "broken": ValueError("broken on purpose"),
    "killed": signal.SIGKILL,
    "bus": signal.SIGBUS,
}


def main(*args: Any) -> None:
    """`trainer_process.main(*args)`, which fails when all is there but the first weights."""
    real = trainer.WeightPublisher

    def publisher(slot: Any, learner: Any) -> Any:
        way = WAYS.get(learner._spec.game)
        if isinstance(way, signal.Signals):
            os.kill(os.getpid(), way)
        elif way is not None:
            raise way
        return real(slot, learner)

    trainer.WeightPublisher = publisher  # type: ignore[assignment,misc]
    trainer_process.main(*args)
