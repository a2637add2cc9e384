"""agent/device.py: how far the host may be ahead, with a stand-in for the device; threads."""

from __future__ import annotations

import pytest
import torch

from agent.device import LaunchesAhead, use_threads


def test_host_waits_for_the_oldest_launch_while_more_than_a_few_are_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded: list[FakeEvent] = []
    waited: list[int] = []

    class FakeEvent:
        def record(self, stream: str) -> None:
            assert stream == "current"
            recorded.append(self)

        def synchronize(self) -> None:
            waited.append(recorded.index(self))

    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: "current")
    ahead = LaunchesAhead(torch.device("cuda"), most=2)
    seen = []
    for _ in range(5):
        ahead.mark()
        seen.append(list(waited))
    assert seen == [[], [], [0], [0, 1], [0, 1, 2]]
    assert len(recorded) == 5


@pytest.mark.parametrize(
    ("asked", "gateways", "used"), [(0, 1, 3), (0, 3, 1), (0, 8, 1), (1, 1, 1), (6, 1, 6)]
)
def test_threads_that_nobody_asks_for_leave_a_core_to_each_gateway(
    monkeypatch: pytest.MonkeyPatch, asked: int, gateways: int, used: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    set_: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", set_.append)
    use_threads(asked, gateways)
    assert set_ == [used]
