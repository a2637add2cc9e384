"""How many files a process may have open, and who gets how many of them where there are few.

Each connection is one. A process that has none left can accept nobody, write no file and start no
other process: so what it needs itself is kept for it, and connections share the rest.
"""

from __future__ import annotations

import logging
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


def room_for(own: int, *wanted: int, log: logging.Logger, what: str) -> tuple[int, ...]:
    """Raise what this process may have open to `own`, for itself, and what is wanted besides; for
    each of that how many there is room for. Where that is less, it is logged. `what`: the first."""
    most_wanted = own + sum(wanted)
    most = allow_open_files(most_wanted)
    room = shares(most - own, *wanted)
    if most < most_wanted:
        log.warning(
            "only %d files may be open, %d may be needed, so there is room for %d %s; raise "
            "ulimit -n (LimitNOFILE of a service)",
            most, most_wanted, room[0], what,
        )  # fmt: skip
    return room


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
