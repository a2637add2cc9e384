"""The driver's side of a cluster: children on other machines, and the link to each actor."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from config.models import Config
from server.cluster.link import ActorAway, ActorLink
from server.cluster.messages import Answered, Decide, Kill, Relay, Reply, RingNumbers, Setup, Start
from server.cluster.remote_child import RemoteChild
from server.cluster.remote_ring import RemoteRing
from server.ipc.inflight import InFlight
from server.ipc.messages import GATEWAY, LogLine, Settle

DEADLINE_S = 30.0


class FakeActor:
    """An actor that notes its orders, and says what it is told to."""

    def __init__(self) -> None:
        self.incarnation = "first"
        self.orders: list[Any] = []
        self.say: list[tuple[str, int, Any]] = []
        self.end: list[tuple[str, int, int | None]] = []
        self.away = False
        self.asked: list[tuple[str, int]] = []
        self.lose_reply = False
        """Of the next exchange with orders."""
        self.tried: list[tuple[int, list[Any]]] = []
        """Numbers and orders of exchanges that had any."""

    def exchange(self, to: str, number: int, orders: Sequence[Any], wait_s: float) -> Reply:
        self.asked.append((to, number))
        if self.away:
            time.sleep(0.005)
            raise ActorAway("killed")
        if to != self.incarnation:
            return Reply(self.incarnation, time.monotonic(), "host")
        if orders:
            self.tried.append((number, list(orders)))
        if orders and self.lose_reply:
            self.lose_reply = False
            raise ActorAway("the link is down")
        self.orders += orders
        reply = Reply(self.incarnation, time.monotonic(), "host", messages=self.say, ended=self.end)
        self.say, self.end = [], []
        time.sleep(min(wait_s, 0.002))
        return reply


class World:
    def __init__(self) -> None:
        self.actor = FakeActor()
        self.made: list[int] = []
        self.link = ActorLink("node", self.actor.exchange, self._made, lambda *_: ())
        self.child = RemoteChild("gateway-0", GATEWAY, self.link.order)
        self.link.children["gateway-0"] = self.child
        self.link.start()

    def _made(self, times: int) -> Sequence[Any]:
        self.made.append(times)
        return (Setup(Config(), "/run", 1, times),)

    def close(self) -> None:
        self.link.close()
        if self.child.alive:
            self.child.process.ended(None)  # type: ignore[union-attr]
            self.child.reap()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def world() -> Any:
    made = World()
    yield made
    made.close()


def test_actor_is_set_up_before_it_starts_a_child(world: World) -> None:
    world.child.begin(Config())
    world.child.send(Settle())
    until(lambda: len(world.actor.orders) == 3)
    kinds = [type(order) for order in world.actor.orders]
    assert kinds == [Setup, Start, Relay]


def test_what_a_child_says_reaches_the_supervisor(world: World) -> None:
    world.child.begin(Config())
    world.actor.say = [("gateway-0", 1, LogLine(20, "gateway", "hello"))]
    until(lambda: [m.text for m in world.child.messages()] == ["hello"])


def test_what_an_earlier_process_said_is_not_heard(world: World) -> None:
    world.child.begin(Config())
    until(lambda: len(world.actor.orders) == 2)
    world.actor.end = [("gateway-0", 1, 3)]
    until(lambda: not world.child.process.is_alive())  # type: ignore[union-attr]
    assert world.child.reap() == 3
    world.child.begin(Config())
    world.actor.say = [
        ("gateway-0", 1, LogLine(20, "gateway", "old")),
        ("gateway-0", 2, LogLine(20, "gateway", "new")),
    ]
    until(lambda: [m.text for m in world.child.messages()] == ["new"])


def test_children_of_an_actor_that_is_lost_are_lost_and_a_new_one_is_set_up(world: World) -> None:
    world.child.begin(Config())
    until(lambda: len(world.actor.orders) == 2)
    world.actor.away = True
    world.actor.incarnation, world.actor.orders = "second", []
    world.actor.away = False
    until(lambda: not world.child.process.is_alive())  # type: ignore[union-attr]
    assert world.child.reap() == -9
    world.child.begin(Config())
    until(lambda: len(world.actor.orders) >= 2)
    assert world.made == [0, 1]
    assert [type(order) for order in world.actor.orders] == [Setup, Start]
    assert world.actor.orders[0].made == 1


def test_actor_that_answers_again_goes_on_and_gets_no_order_twice(world: World) -> None:
    world.child.begin(Config())
    until(lambda: len(world.actor.orders) == 2)
    world.actor.away = True
    until(lambda: world.actor.asked[-1] == world.actor.asked[-2])
    again = world.actor.asked[-1]
    world.child.send(Settle())
    world.actor.away = False
    until(lambda: len(world.actor.orders) == 3)
    after = world.actor.asked[world.actor.asked.index(again) :]
    assert [number for _, number in after] == sorted(number for _, number in after)
    assert [type(order) for order in world.actor.orders] == [Setup, Start, Relay]
    assert world.made == [0]
    assert world.child.process.is_alive()  # type: ignore[union-attr]


def test_exchange_without_a_reply_is_made_again_as_it_was(world: World) -> None:
    world.child.begin(Config())
    until(lambda: len(world.actor.orders) == 2)
    world.actor.lose_reply = True
    world.child.send(Settle())
    until(lambda: not world.actor.lose_reply)
    world.link.order(Decide("later"))  # type: ignore[arg-type]
    until(lambda: len(world.actor.orders) == 4)
    first, again, later = world.actor.tried[-3:]
    assert first == again
    assert [type(order) for order in first[1]] == [Relay]
    assert later[0] > again[0]


def test_kill_is_of_one_process(world: World) -> None:
    world.child.begin(Config())
    world.child.process.kill()  # type: ignore[union-attr]
    until(lambda: Kill("gateway-0", 1) in world.actor.orders)


def test_order_that_messages_go_by_comes_before_them(world: World) -> None:
    world.child.begin(Config())
    for i in range(50):
        world.link.order(Decide(i))  # type: ignore[arg-type]
        world.child.send(i)
    until(lambda: len(world.actor.orders) == 102)
    seen: list[Any] = []
    for order in world.actor.orders:
        if isinstance(order, Relay):
            assert order.message in seen
        elif isinstance(order, Decide):
            seen.append(order.spec)


def test_ring_of_a_lost_machine_counts_what_was_kept_of_it() -> None:
    ring = RemoteRing(64)
    ring.told(RingNumbers(10, 7, 3, 64, 11, 2))
    assert (ring.steps, ring.steps_read, ring.used, ring.completed) == (10, 7, 3, (11, 2))
    ring.lost(0)
    assert (ring.steps, ring.steps_read, ring.used, ring.completed) == (7, 7, 0, (7, 0))
    ring.told(RingNumbers(4, 1, 3, 64, 4, 0))
    assert (ring.steps, ring.steps_read) == (11, 8)
    assert ring.account(Answered(1, 0, 12, 1, 1), 8) == InFlight(4, 1), (
        "of 12 steps 8 had reached the learner"
    )
    assert ring.account(Answered(1, 0, 12, 1, 1), 8) == InFlight()
    assert (ring.steps, ring.steps_read) == (12, 9)
    ring.lost(2)
    assert ring.account(None, 0) == InFlight(2, 0), "as it was told last"
    ring.lost(0)
    assert (ring.steps, ring.before) == (10, 10)
