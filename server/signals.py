"""Signals: flags that they set, and blocking them while processes are started."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""What a terminal and a service manager send to every process of a group."""


class SignalFlag:
    """Set by signals, so that a loop can act on them in its own time."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self.set = False
        for number in numbers:
            signal.signal(number, self._on)

    def _on(self, _number: int, _frame: FrameType | None) -> None:
        self.set = True

    def take(self) -> bool:
        """Whether it is set; it no longer is afterwards."""
        was, self.set = self.set, False
        return was


def stop_flag() -> SignalFlag:
    """Set when this process is asked to end."""
    return SignalFlag(*STOPPING)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Keep this process's handlers of the signals that ask it to end, whatever is called within."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            with suppress(ValueError):  # not the main thread, which has them still
                signal.signal(number, handler)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block the signals that ask a process to end. A process that is started within has no handlers
    yet, and Ctrl-C reaches it all the same: it begins with the signals blocked, until it unblocks
    or ignores them itself. Here they arrive at the end."""
    # It would unblock them if it were started within.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
