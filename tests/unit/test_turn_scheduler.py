from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from server.gateway.turn_scheduler import POLL_S, TurnScheduler


class FakeLoop:
    """Runs what is due when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.soon: list[Callable[[], None]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_soon(self, what: Callable[[], None]) -> None:
        self.soon.append(what)

    def call_later(self, seconds: float, what: Callable[[], None]) -> None:
        self.later.append((seconds, what))

    def time(self) -> float:
        return self.now

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
    def __init__(self, *, lock_step: bool = True) -> None:
        self.held: list[bool] = []
        self.waits: list[bool] = []
        self.lock_step = lock_step

    def ring_full(self, full: bool) -> None:
        self.held.append(full)

    def hold(self, held: bool) -> None:
        self.waits.append(held)


class SchedulerWithFakes:
    def __init__(self) -> None:
        self.loop, self.frames, self.policy = FakeLoop(), FakeFrameLoop(), FakePolicy()
        self.run = SimpleNamespace(frame_loop=self.frames, policy=self.policy, ahead=False)
        self.connections = {FakeConnection(), FakeConnection()}
        self.turned = 0
        self.crashes: list[BaseException] = []
        make: Any = TurnScheduler
        self.scheduler = make(self.loop, self.connections, self._turned, self.crashes.append)

    def _turned(self) -> None:
        self.turned += 1

    def opened(self) -> SchedulerWithFakes:
        self.scheduler.open(self.run)
        return self

    def held(self) -> list[list[bool]]:
        return [connection.held for connection in self.connections]

    def waits(self) -> list[list[bool]]:
        return [connection.waits for connection in self.connections]


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
    assert [seconds for seconds, _ in world.loop.later] == [POLL_S]
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


def test_games_ahead_of_training_are_held_until_it_has_caught_up() -> None:
    world = SchedulerWithFakes().opened()
    world.run.ahead = True
    world.scheduler.schedule()
    world.loop.iterate()
    assert world.frames.turns == 1, "what has come is answered"
    assert world.waits() == [[True], [True]]
    for _ in range(3):
        world.loop.now += 0.5
        world.scheduler.schedule()  # a game in real time plays on
        world.loop.iterate()
        world.loop.wait()
    assert world.frames.turns == 4
    assert world.waits() == [[True], [True]], "told once"
    newcomer, late = FakeConnection(), FakeConnection(lock_step=False)
    world.scheduler.join(newcomer)  # type: ignore[arg-type]
    world.scheduler.join(late)  # type: ignore[arg-type]
    assert (newcomer.waits, late.waits) == ([True], [True])
    world.connections |= {newcomer, late}
    world.run.ahead = False
    world.loop.now += 0.5
    world.loop.wait()
    assert all(waits == [True, False] for waits in world.waits())
    assert world.scheduler.held == pytest.approx(1.0), "all the time"
    world.loop.now += 2.0
    assert world.scheduler.held == pytest.approx(0.5)
    world.scheduler.new_interval()
    assert world.scheduler.held == 0.0
    assert not world.loop.later, "nothing is looked at while no game waits"
    world.scheduler.join(FakeConnection())  # type: ignore[arg-type]
    assert world.scheduler.stalls == 0


def test_scheduler_counts_no_waiting_where_no_game_can_wait() -> None:
    world = SchedulerWithFakes()
    world.connections.clear()
    world.connections.add(FakeConnection(lock_step=False))
    world.opened().run.ahead = True
    world.scheduler.schedule()
    world.loop.iterate()
    world.loop.now += 1.0
    world.loop.wait()
    assert world.scheduler.held == 0.0
    world.scheduler.join(FakeConnection())  # type: ignore[arg-type]
    world.loop.now += 1.0
    world.loop.wait()
    assert world.scheduler.held == pytest.approx(0.5)


def test_share_of_an_interval_that_begins_while_games_wait_is_at_most_all_of_it() -> None:
    world = SchedulerWithFakes().opened()
    world.run.ahead = True
    world.scheduler.schedule()
    world.loop.iterate()
    world.loop.now += 5.0  # a busy machine: nobody has looked for so long
    world.scheduler.new_interval()
    world.loop.now += 1.0
    world.loop.wait()
    assert world.scheduler.held == pytest.approx(1.0)


def test_scheduler_closed_while_games_wait_looks_no_more() -> None:
    world = SchedulerWithFakes().opened()
    world.run.ahead = True
    world.scheduler.schedule()
    world.loop.iterate()
    world.scheduler.close()
    world.loop.wait()
    assert not world.loop.later


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
