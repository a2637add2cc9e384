"""How many files a process may have open, and who gets how many of them where there are few.

Each connection is one. A process that has none left can accept nobody, write no file and start no
other process: so what it needs itself is kept for it, and connections share the rest.
"""

from __future__ import annotations

import resource


def allow_open_files(wanted: int) -> int:
    """Raise what this process may have open to `wanted`, as far as it may raise it; how many of
    those it may have now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def shares(there: int, *wanted: int) -> tuple[int, ...]:
    """Of what is there, for each what it wants, or its part; at least one for who wants any."""
    total = sum(wanted)
    if there >= total:
        return wanted
    return tuple(min(each, max(1, each * there // total)) for each in wanted)


KEPT = 32
"""Open files that no connection takes from a process with other work, however many it has."""


def few_left(descriptor: int) -> bool:
    """Whether this process has about as many files open as it may, now that it has got this one:
    the system gives the lowest number that is free."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return False
    return descriptor >= soft - min(KEPT, soft // 8)
