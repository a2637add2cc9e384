"""agent/device.py: how far the host may be ahead, with a stand-in for the device."""

from __future__ import annotations

import pytest
import torch

from agent.device import LaunchesAhead


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
