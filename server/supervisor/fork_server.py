"""The process that has imported what children run, torch above all, and that is forked for each.

So torch is imported once and not by each child, and a child that is restarted is there at once. It
ends with this process, and all children with it.

This module imports as little as can be: a command calls `prepare` before all else.
"""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.forkserver
import os
import signal
from contextlib import suppress
from typing import Any

from server.signals import signals_blocked

CONTEXT = multiprocessing.get_context("forkserver")
"""How children are started."""

CONTEXT.set_forkserver_preload(["server.supervisor.preload"])

_server: Any = multiprocessing.forkserver._forkserver


def prepare() -> None:
    """Have what children run imported, from now on and beside all else: the first child waits for
    it. Without this, that begins with the first child. Errors: OSError."""
    with signals_blocked():
        multiprocessing.forkserver.ensure_running()
    atexit.unregister(_end)
    atexit.register(_end)


def _end() -> None:
    """A start that was refused does not leave it at its imports, for seconds."""
    if _server._forkserver_pid is not None:
        with suppress(ProcessLookupError):
            os.kill(_server._forkserver_pid, signal.SIGKILL)


def end_with_supervisor() -> None:
    """In a child: let the process that has forked it end with the supervisor. It holds a pipe open,
    so that it could have others forked, which would keep that process."""
    if _server._forkserver_alive_fd is not None:
        os.close(_server._forkserver_alive_fd)
        _server._forkserver_alive_fd = None
