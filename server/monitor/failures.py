"""Connections that ended in an error, for people: which error, whose, when, how often. Pure.

Grouped by address and error, and only the newest groups are kept: a hostile client can fail as
often as it likes, and costs one line here.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from server.ipc.messages import FailedConnections

MOST = 200
"""Groups that are kept: the newest."""


class Failures:
    """The newest groups of failed connections, of all gateways since the start."""

    def __init__(self, of_day: Callable[[], float] = time.time) -> None:
        """`of_day`: seconds since 1970."""
        self._of_day = of_day
        self._groups: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()

    def add(self, found: Iterable[FailedConnections]) -> None:
        """Take in what a gateway tells."""
        now = self._of_day()
        for one in found:
            key = one.address, one.code
            before = self._groups.pop(key, None)
            self._groups[key] = {
                "code": one.code,
                "address": one.address,
                "peer": one.peer,
                "client": one.client,
                "session": one.session or None,
                "message": one.message,
                "first": before["first"] if before else now,
                "last": now,
                "times": one.times + (before["times"] if before else 0),
            }
            if len(self._groups) > MOST:
                self._groups.popitem(last=False)

    def rows(self) -> tuple[dict[str, Any], ...]:
        """Plain data, the newest first. `first` and `last`: seconds since 1970; `peer`, `client`,
        `session` and `message` are of the newest connection of a group."""
        return tuple(reversed(self._groups.values()))
