"""A gateway node is drained: its games are sent away, and it ends once its rows are kept."""

from __future__ import annotations

from typing import Any

import pytest

from config.load import ConfigError
from server.cluster.draining import Draining
from server.cluster.messages import RingNumbers, StopListening
from server.cluster.remote_ring import RemoteRing
from server.ipc.messages import Stop

pytestmark = pytest.mark.promise("cluster-drain")


class FakeLink:
    def __init__(self, number: int) -> None:
        self.name, self.host = f"gateway node {number}", f"10.0.0.{number}"
        self.orders: list[Any] = []
        self.answers = True

    def order(self, order: Any) -> None:
        self.orders.append(order)


class FakeGateway:
    def __init__(self, number: int) -> None:
        self.name = f"gateway-{number}"
        self.alive = True
        self.retired = False
        self.told: list[Any] = []

    def send(self, message: Any) -> None:
        self.told.append(message)


class World:
    def __init__(self, nodes: int = 2) -> None:
        self.links: list[Any] = [FakeLink(n) for n in range(nodes)]
        self.gateways: list[Any] = [FakeGateway(n) for n in range(nodes)]
        self.rings = [RemoteRing(64) for _ in range(nodes)]
        self.ended: list[int] = []
        self.draining = Draining(
            self.links, lambda n: [self.gateways[n]], lambda n: [self.rings[n]], self.ended.append
        )

    def rows(self, node: int, used: int) -> None:
        self.rings[node].told(RingNumbers(50, 50 - used, used, 64, 50, 0))

    def asked(self, name: str = "1") -> tuple[bool, str]:
        self.draining.look()
        found = self.draining.begin(name)
        return found["done"], found["text"].partition(" (")[0]


def test_node_that_is_drained_ends_once_its_gateways_have_and_its_rows_are_kept() -> None:
    world = World()
    world.rows(1, 7)
    waits = "gateway node 1: waiting for its games to leave, and for gateway-1 to end"
    assert world.asked() == (False, waits)
    assert world.asked() == (False, waits), "asked again, nothing is told twice"
    assert world.links[1].orders == [StopListening()]
    assert world.gateways[1].told == [Stop()]
    assert world.gateways[1].retired
    world.gateways[1].alive = False
    assert world.asked() == (False, "gateway node 1: waiting for its learner to keep 7 rows")
    assert world.ended == []
    world.rows(1, 0)
    assert world.asked()[0]
    assert world.ended == [1]
    assert world.asked() == (
        True, "gateway node 1 is drained: all of its rows are kept, and nothing runs there",
    )  # fmt: skip
    assert world.ended == [1]
    assert (world.links[0].orders, world.gateways[0].told) == ([], []), "the other one serves on"


def test_node_that_does_not_answer_is_waited_for() -> None:
    world = World()
    world.asked()
    world.gateways[1].alive = False
    world.links[1].answers = False
    done, text = world.asked()
    assert not done
    assert "waiting for it to answer" in text
    assert world.ended == []


def test_node_is_known_by_its_host_too() -> None:
    world = World()
    assert "gateway node 1" in world.asked("10.0.0.1")[1]


def test_unknown_node_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"one of 0 \(10.0.0.0\), 1 \(10.0.0.1\)"):
        World().draining.begin("7")


def test_last_node_that_serves_games_is_not_drained() -> None:
    world = World()
    world.asked("1")
    with pytest.raises(ConfigError, match="this is the last one"):
        world.draining.begin("0")
    assert world.links[0].orders == []
