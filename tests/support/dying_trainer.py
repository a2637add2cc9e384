"""A trainer's process that kills itself in the middle of something, as SIGKILL would."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from agent import files, journal
from server.ipc import step_ring, weight_slot
from server.trainer import ingest, replay_journal, trainer
from server.trainer import process as trainer_process

MOMENTS = ("taken in", "half written", "written", "given back", "publishing", "saving", "ready")


def main(moment: str, after: int, *args: Any) -> None:
    """`trainer_process.main(*args)`, until that moment has come `after` times."""
    left = [after]

    def die_if_due() -> None:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def then_die(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **more: Any) -> Any:
            result = function(*args, **more)
            die_if_due()
            return result

        return called

    def write_half(file: int, parts: list[memoryview], at: int) -> int:
        data = b"".join(parts)
        if left[0] == 1:
            os.pwrite(file, data[: len(data) * 2 // 3], at)
        die_if_due()
        return os.pwrite(file, data, at)

    match moment:
        case "taken in":
            ingest.take_in = then_die(ingest.take_in)
        case "half written":
            journal.os = _With(os, pwritev=write_half)  # type: ignore[attr-defined]
        case "written":
            replay_journal.Journal.append = then_die(replay_journal.Journal.append)  # type: ignore[method-assign]
        case "given back":
            step_ring.StepRing.release = then_die(step_ring.StepRing.release)  # type: ignore[method-assign]
        case "publishing":
            weight_slot.fence = then_die(weight_slot.fence)
        case "saving":
            files.os = _With(os, fsync=then_die(os.fsync))  # type: ignore[attr-defined]
        case "ready":
            trainer.Trainer._tell = then_die(trainer.Trainer._tell)  # type: ignore[method-assign]
    trainer_process.main(*args)


class _With:
    """A module in which some functions are others."""

    def __init__(self, module: Any, **others: Any) -> None:
        self._module = module
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
