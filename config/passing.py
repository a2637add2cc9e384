"""Which troubles pass by themselves: the one table of them, and the exit codes that go by it.

What refuses a start is either wrong until somebody mends it (2), or it may be over soon and the
same command is worth another try (75, EX_TEMPFAIL of sysexits.h). A service manager tries again
after 75 and gives up after 2.
"""

from __future__ import annotations

import errno
import socket

WRONG, LATER = 2, 75
"""Exit codes."""

PASSING: dict[int, str] = {
    errno.ENOSPC: "a disk is full",
    errno.EDQUOT: "a disk quota is used up",
    errno.EIO: "a disk did not answer: a cable, a network file system",
    errno.ESTALE: "a network file system was away",
    errno.ENOTCONN: "a mounted file system has lost its server",
    errno.ETIMEDOUT: "a network file system did not answer",
    errno.EBUSY: "somebody else has a file or a device",
    errno.EADDRNOTAVAIL: "no interface of the machine has the address yet",
    errno.EADDRINUSE: "another program has the port: often the server before this one",
    errno.ENETDOWN: "the network is not up yet",
    errno.EMFILE: "the process has too many open files",
    errno.ENFILE: "the machine has too many open files",
    errno.ENOMEM: "the machine has no memory left",
    errno.ENOBUFS: "the machine has no memory for the network left",
    errno.EAGAIN: "somebody else has a lock, or the machine has too many processes",
}
"""Errors of the system that may be over soon, and why. All else stays as it is until somebody mends
it: what is missing, forbidden, read-only, of another kind."""

PASSING_NAMES: dict[int, str] = {
    socket.EAI_AGAIN: "no name server answers yet",
    socket.EAI_MEMORY: "there is no memory to look a name up",
    socket.EAI_SYSTEM: "the system failed while it looked a name up",
}
"""The same of names that do not resolve. One that a name server does not know (EAI_NONAME) is
wrong."""


class ConfigError(Exception):
    """The configuration is wrong. The message names each key, its source, and what to do."""


class TryAgain(ConfigError):
    """Nothing is wrong with the configuration: what keeps it from being used may be over soon."""


class InUse(TryAgain):
    """What the configuration names is somebody else's now, and may be free later."""


def is_passing(error: BaseException) -> bool:
    """Whether an error may be over soon: it, or what it was raised for. Errors that put one of the
    system into words have it behind them."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        if isinstance(current, TryAgain | MemoryError) or _by_number(current):
            return True
        seen.append(current)
        current = current.__cause__ or current.__context__
    return False


def exit_code(error: BaseException) -> int:
    """Of a command that ends with this error, which is told by a message."""
    if is_passing(error):
        return LATER
    return WRONG if isinstance(error, ConfigError) else 1


def _by_number(error: BaseException) -> bool:
    if isinstance(error, socket.gaierror):
        return error.errno in PASSING_NAMES
    # Those of ssl and others have numbers of their own.
    return isinstance(error, OSError) and (
        type(error).__module__ == "builtins" and error.errno in PASSING
    )
