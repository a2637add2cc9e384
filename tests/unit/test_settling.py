"""Waiting until processes have answered that nothing is on its way."""

from __future__ import annotations

import time
from typing import Any

from server.ipc.messages import Settle, Settled
from server.supervisor.settling import Settling


class Process:
    """Answers that it has settled when it is asked the n-th time."""

    def __init__(self, name: str, when: int) -> None:
        self.name = name
        self.asked = 0
        self._when = when
        self.settling: Settling

    def send(self, message: Any) -> None:
        assert message == Settle()
        self.asked += 1
        self.settling.answer(Settled(self.name, self.asked >= self._when))


def wait(seconds: float, *processes: Any) -> bool:
    settling = Settling(lambda seconds: time.sleep(seconds / 10))
    for process in processes:
        process.settling = settling
    return settling.wait(processes, time.monotonic() + seconds)


def test_each_is_asked_until_it_has_settled() -> None:
    early, late = Process("gateway-0", 1), Process("gateway-1", 3)
    assert wait(10.0, early, late)
    assert (early.asked, late.asked) == (1, 3)


def test_one_that_does_not_settle_in_time_is_waited_for_no_longer() -> None:
    assert not wait(0.1, Process("trainer", 10**9))


def test_nobody_to_ask_is_settled() -> None:
    assert wait(0.0)
