"""Children of supervisors in the tests' own process, forked from a server process that has imported
torch once. A fresh interpreter for each, as `understudy serve` has it, would take seconds."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import pytest

from server.ipc.heartbeat import Heartbeat
from server.supervisor import child

_PRELOAD = ["server.gateway.process", "server.trainer.process", "tests.support.forked"]


def fork_children(patch: pytest.MonkeyPatch) -> None:
    """From now on, have children start like this."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    patch.setattr(child, "CONTEXT", context)
    patch.setattr(child, "_run", _Live({}))


class _Live:
    """What the new process calls. Its parent is the server that forked it, which ends with the
    tests; its environment is that of the process that asked for it."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ = environ

    def __reduce__(self) -> tuple[Any, ...]:
        return _Live, (dict(os.environ),)

    def __call__(
        self, heartbeat: Heartbeat, target: Callable[..., None], args: tuple[Any, ...]
    ) -> None:
        os.environ.clear()
        os.environ.update(self._environ)
        heartbeat._parent = os.getppid()
        heartbeat.live_with_parent()
        target(*args)
