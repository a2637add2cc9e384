"""Children of supervisors in the tests' own process have the environment that the test has now, and
not that of the time when the process that forks them was started."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from server.ipc.heartbeat import Heartbeat
from server.supervisor import child, fork_server

_PRELOAD = ["server.supervisor.preload", "tests.support.forked"]


def fork_children(patch: pytest.MonkeyPatch) -> None:
    """From now on, have children start like this."""
    fork_server.CONTEXT.set_forkserver_preload(_PRELOAD)
    patch.setattr(child, "_run", _Live({}))


class _Live:
    """What the new process calls. Its environment is that of the process that asked for it."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ = environ

    def __reduce__(self) -> tuple[Any, ...]:
        return _Live, (dict(os.environ),)

    def __call__(
        self, heartbeat: Heartbeat, target: Callable[..., None], args: tuple[Any, ...]
    ) -> None:
        os.environ.clear()
        os.environ.update(self._environ)
        fork_server.end_with_supervisor()
        heartbeat.live_with_parent()
        target(*args)
