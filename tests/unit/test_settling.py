"""Waiting until processes have answered that nothing is on its way."""

from __future__ import annotations

import time
from typing import Any

from server.ipc.messages import Settle, Settled
from server.supervisor.settling import Settling


class FakeProcess:
    """Answers that it has settled when it is asked the n-th time."""

    def __init__(self, name: str, when: int) -> None:
        self.name = name
        self.asked = 0
        self.retired = False
        self._when = when
        self.settling: Settling

    def send(self, message: Any) -> None:
        assert message == Settle()
        self.asked += 1
        self.settling.answer(Settled(self.name, self.asked >= self._when))


def wait_until_settled(seconds: float, *processes: Any) -> bool:
    settling = Settling(lambda seconds: time.sleep(seconds / 10))
    for process in processes:
        process.settling = settling
    return settling.wait(processes, time.monotonic() + seconds)


def test_settling_asks_each_process_until_it_has_settled() -> None:
    early, late = FakeProcess("gateway-0", 1), FakeProcess("gateway-1", 3)
    assert wait_until_settled(10.0, early, late)
    assert (early.asked, late.asked) == (1, 3)


def test_process_that_was_told_to_end_is_not_waited_for() -> None:
    drained = FakeProcess("gateway-1", 10**9)
    drained.retired = True
    assert wait_until_settled(10.0, FakeProcess("gateway-0", 1), drained)
    assert drained.asked == 0


def test_settling_past_deadline_gives_false() -> None:
    assert not wait_until_settled(0.1, FakeProcess("trainer", 10**9))


def test_settling_without_processes_gives_true() -> None:
    assert wait_until_settled(0.0)
