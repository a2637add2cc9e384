from __future__ import annotations

from collections.abc import Callable
from typing import Any

from server.gateway.turn_scheduler import RING_POLL_S, TurnScheduler


class FakeLoop:
    """Runs what is due when it is told to."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_soon(self, what: Callable[[], None]) -> None:
        self.soon.append(what)

    def call_later(self, seconds: float, what: Callable[[], None]) -> None:
        self.later.append((seconds, what))

    def iterate(self) -> None:
        due, self.soon = self.soon, []
        for what in due:
            what()

    def wait(self) -> None:
        due, self.later = self.later, []
        for _, what in due:
            what()


class FakeFrameLoop:
    """Has a ring that is full after a turn, where it is told so, until there is room."""

    def __init__(self) -> None:
        self.turns = self.flushes = 0
        self.full = self.fills = False
        self.error: Exception | None = None

    def run(self) -> None:
        assert not self.full
        if self.error:
            raise self.error
        self.turns += 1
        self.full = self.fills

    def flush(self) -> None:
        self.flushes += 1
        self.full = self.fills


class FakePolicy:
    refreshed = 0

    def refresh(self) -> None:
        self.refreshed += 1


class FakeConnection:
    def __init__(self) -> None:
        self.held: list[bool] = []

    def ring_full(self, full: bool) -> None:
        self.held.append(full)


class SchedulerWithFakes:
    def __init__(self) -> None:
        self.loop, self.frames, self.policy = FakeLoop(), FakeFrameLoop(), FakePolicy()
        self.connections = {FakeConnection(), FakeConnection()}
        self.turned = 0
        self.crashes: list[BaseException] = []
        make: Any = TurnScheduler
        self.scheduler = make(self.loop, self.connections, self._turned, self.crashes.append)

    def _turned(self) -> None:
        self.turned += 1

    def opened(self) -> SchedulerWithFakes:
        self.scheduler.open(self.frames, self.policy)
        return self

    def held(self) -> list[list[bool]]:
        return [connection.held for connection in self.connections]


def test_schedule_several_times_runs_one_turn() -> None:
    world = SchedulerWithFakes().opened()
    for _ in range(3):
        world.scheduler.schedule()
    assert world.frames.turns == 0
    world.loop.iterate()
    assert (world.frames.turns, world.policy.refreshed, world.turned) == (1, 1, 1)
    world.scheduler.schedule()
    world.loop.iterate()
    assert world.frames.turns == 2


def test_turn_that_is_run_now_is_not_run_again() -> None:
    world = SchedulerWithFakes().opened()
    world.scheduler.run_now()
    assert world.frames.turns == 0, "none was scheduled"
    world.scheduler.schedule()
    world.scheduler.run_now()
    assert world.frames.turns == 1
    world.loop.iterate()
    assert world.frames.turns == 1
    world.scheduler.schedule()
    world.loop.iterate()
    assert world.frames.turns == 2


def test_schedule_without_game_runs_nothing() -> None:
    world = SchedulerWithFakes()
    assert not world.scheduler.full
    world.scheduler.schedule()
    world.loop.iterate()
    assert (world.turned, world.crashes) == (0, [])


def test_scheduler_with_full_ring_pauses_connections_until_room() -> None:
    world = SchedulerWithFakes().opened()
    world.frames.fills = True
    world.scheduler.schedule()
    world.loop.iterate()
    assert world.scheduler.full
    assert world.scheduler.stalls == 1
    assert world.held() == [[True], [True]]
    assert [seconds for seconds, _ in world.loop.later] == [RING_POLL_S]
    world.scheduler.schedule()
    world.loop.iterate()
    assert world.frames.turns == 1, "no turn while the ring is full"
    world.loop.wait()
    assert world.held() == [[True], [True]]
    world.frames.fills = False
    world.loop.wait()
    assert world.frames.flushes == 2
    assert world.held() == [[True, False], [True, False]]
    world.loop.iterate()
    assert world.frames.turns == 2, "what came meanwhile is answered"
    assert world.scheduler.stalls == 1


def test_scheduler_turn_error_is_reported_as_crash() -> None:
    world = SchedulerWithFakes().opened()
    world.frames.error = ValueError("broken")
    world.scheduler.schedule()
    world.loop.iterate()
    assert world.crashes == [world.frames.error]
    assert world.turned == 0


def test_scheduler_after_close_does_not_flush_or_run() -> None:
    world = SchedulerWithFakes().opened()
    world.frames.fills = True
    world.scheduler.schedule()
    world.loop.iterate()
    world.scheduler.close()
    world.loop.wait()
    assert world.frames.flushes == 0
    world.frames.full = False
    world.scheduler.schedule()
    world.loop.iterate()
    assert world.frames.turns == 1
