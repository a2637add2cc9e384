from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.gateway import shutdown
from server.gateway.shutdown import STOP_S, drain


class FakeFrameLoop:
    """Is idle after so many turns."""

    def __init__(self, turns: int) -> None:
        self.left = turns

    @property
    def idle(self) -> bool:
        return self.left <= 0

    def flush(self) -> None: ...

    def run(self) -> None:
        self.left -= 1


class FakeClock:
    """Goes on with every sleep."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 10.0
        self.at: list[Any] = []
        monkeypatch.setattr(shutdown.asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.at:
            self.at.pop(0)()

    def __call__(self) -> float:
        return self.now


def run_drain(connections: set[int], frame_loop: Any, clock: FakeClock) -> None:
    asyncio.run(drain(connections, frame_loop, clock))


def test_drain_waits_for_connections_then_for_idle_frame_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, connections, frames = FakeClock(monkeypatch), {1, 2}, FakeFrameLoop(3)

    def leave() -> None:
        assert frames.left == 3, "no turn before the last one has left"
        connections.pop()

    clock.at = [leave, leave]
    run_drain(connections, frames, clock)
    assert not connections
    assert frames.idle
    assert clock.now < 10.0 + STOP_S


def test_drain_without_game_waits_only_for_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock(monkeypatch)
    run_drain(set(), None, clock)
    assert clock.now == 10.0


def test_drain_past_time_limit_gives_up_and_logs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, frames = FakeClock(monkeypatch), FakeFrameLoop(10**9)
    run_drain({1}, frames, clock)
    assert clock.now == pytest.approx(10.0 + STOP_S, abs=0.1)
    assert "the trainer took no more steps" in caplog.text
