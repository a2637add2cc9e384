"""Signals held back while processes are started."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What a terminal and a service manager send to every process of a group."""


@contextmanager
def signals_held_back() -> Iterator[None]:
    """A process that is still starting has no handlers yet, and Ctrl-C reaches it all the same:
    what is started within begins with the signals held back, until it lets them through itself.
    Here they arrive at the end."""
    # It would let them through if it were started within.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
