"""What the tests' own process starts is forked by the process that has imported what it needs:
children of supervisors, games, workers of studies. Each has the environment that the test has now,
and not that of the time when the process that forks was started."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from server.ipc.heartbeat import Heartbeat
from server.play import game_handle
from server.supervisor import child, fork_server

_PRELOAD = ["server.supervisor.preload", "tests.support.forked", "tests.support.preloaded"]


def fork_children(patch: pytest.MonkeyPatch) -> None:
    """From now on, have children start like this."""
    fork_server.CONTEXT.set_forkserver_preload(_PRELOAD)
    patch.setattr(child, "_run", _Live({}))
    patch.setattr(game_handle, "_SPAWN", _Forking())


def fork_workers(patch: pytest.MonkeyPatch) -> None:
    """And workers of studies, which start servers of their own."""
    from lab.study import workers  # imports torch

    patch.setattr(workers, "_SPAWN", _Forking(starts_servers=True))


def fork_own_workers() -> None:
    """The same for good, in a process that runs a command."""
    fork_workers(pytest.MonkeyPatch())


class _Forking:
    """As multiprocessing's context of processes that are spawned."""

    Pipe = staticmethod(fork_server.CONTEXT.Pipe)

    def __init__(self, *, starts_servers: bool = False) -> None:
        self._starts_servers = starts_servers

    def Process(self, target: Callable[..., None], **more: Any) -> Any:
        here = _Here({}, target, self._starts_servers)
        return fork_server.CONTEXT.Process(target=here, **more)


class _Here:
    """What the new process calls. Its environment is that of the process that asked for it."""

    def __init__(
        self, environ: dict[str, str], target: Callable[..., None], starts_servers: bool
    ) -> None:
        self._environ, self._target, self._starts_servers = environ, target, starts_servers

    def __reduce__(self) -> tuple[Any, ...]:
        return _Here, (dict(os.environ), self._target, self._starts_servers)

    def __call__(self, *args: Any) -> None:
        os.environ.clear()
        os.environ.update(self._environ)
        if self._starts_servers:
            from tests.support.preloaded import start_over

            start_over()
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._target(*args)


class _Live:
    """The same, for a child of a supervisor."""

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
