"""What is lost with a gateway of a node is counted once, also where its node or the driver is
killed before another gateway runs in its place."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.models import Config
from server.cluster.crash_counters import begin_counting, note_whose, read_left
from server.cluster.messages import Answered, Reply, RingNumbers, Setup
from server.cluster.node_book import NodeBook
from server.cluster.remote_ring import RemoteRing
from server.ipc import inflight
from server.ipc.inflight import InFlight
from server.supervisor.in_flight_account import InFlightAccount

pytestmark = pytest.mark.promise("cluster-kill-node", "cluster-kill-gateway", "cluster-kill-driver")

AT_DEATH = RingNumbers(steps=50, steps_read=50, used=0, capacity=64, completed=53, open_frames=4)
"""Of a gateway that dies with 3 steps that are not in its ring."""

LOST = InFlight(3, 4)


class Driver:
    """What a start of the server counts, with one gateway on one node."""

    def __init__(self, run: Path, launch: int) -> None:
        events: Any = SimpleNamespace(add=lambda *_, **__: None)
        folder: Any = SimpleNamespace(path=run, launch=launch)
        self.account = InFlightAccount(run, events, 1)
        self.book = NodeBook(Config(), self.account, folder)
        self.ring = self.book.rings[0] = RemoteRing(64)

    def begin(self, base: int = 0, *, resumed: bool = False) -> None:
        self.book.begin(base)
        self.account.begin(base, resumed=resumed)

    def hear(
        self, numbers: RingNumbers, *, runs: int = 0, ended: int = 0, left: Answered | None = None
    ) -> None:
        """A reply of the node. `runs`, `ended`: the generation of a process, if there is one."""
        reply = Reply("actor", time.monotonic(), "host", rings={0: numbers})
        reply.beats = {"gateway-0": (runs, 100, (0, 0))} if runs else {}
        reply.ended = [("gateway-0", ended, -9)] if ended else []
        reply.left = {0: left} if left else {}
        self.book.node_said(0, reply)

    def gateway_gone(self, generation: int) -> None:
        """As the supervisor, once it has heard of it."""
        count = partial(self.account.gateway_gone, 0, "gateway-0", self.ring.steps)
        self.book.gateway_gone(0, generation, count)

    @property
    def lost(self) -> InFlight:
        self.book.count_lost()
        return self.account.lost


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    made = Driver(tmp_path, 1)
    made.begin()
    made.book.learner_said(Reply("l", 0.0, "host", rings={0: AT_DEATH}))
    made.hear(AT_DEATH, runs=1)
    return made


def dies(driver: Driver, numbers: RingNumbers = AT_DEATH) -> None:
    """The gateway dies, and that is counted."""
    driver.hear(numbers, ended=1)
    driver.gateway_gone(1)
    driver.hear(numbers)  # its node has these numbers until another one starts
    assert driver.lost == LOST


def node_is_back(driver: Driver, left: Answered | None) -> None:
    driver.book.node_lost(0)
    driver.book.made[0] = 1
    driver.hear(RingNumbers(0, 0, 0, 64, 0, 0), left=left)


def test_node_killed_before_its_dead_gateway_was_started_again(driver: Driver) -> None:
    dies(driver)
    node_is_back(driver, Answered(1, 0, 53, 4, 1))
    assert driver.lost == LOST


def test_node_killed_for_good_before_its_dead_gateway_was_started_again(driver: Driver) -> None:
    dies(driver)
    driver.book.node_lost(0)
    driver.book.count_lost(at_end=True)
    assert driver.lost == LOST


def test_rows_in_the_ring_of_a_dead_gateway_are_lost_with_its_node(driver: Driver) -> None:
    driver.book.learner_said(Reply("l", 0.0, "host", rings={0: AT_DEATH._replace(steps=45)}))
    dies(driver, AT_DEATH._replace(steps_read=45, used=5))
    node_is_back(driver, Answered(1, 0, 53, 4, 1))
    assert driver.lost == LOST + InFlight(5, 0)


def test_node_killed_after_another_gateway_was_started(driver: Driver) -> None:
    dies(driver)
    # Which nobody has heard of yet, and which has answered the same number of frames.
    node_is_back(driver, Answered(1, 0, 50, 4, 2))
    assert driver.lost == LOST + InFlight(0, 4)


def test_gateway_that_dies_with_its_node_is_counted_with_it(driver: Driver) -> None:
    driver.book.node_lost(0)
    driver.gateway_gone(1)  # the supervisor hears of it later
    driver.book.made[0] = 1
    driver.hear(RingNumbers(0, 0, 0, 64, 0, 0), left=Answered(1, 0, 55, 4, 1))
    assert driver.lost == InFlight(5, 4)


def test_node_of_a_dead_gateway_that_is_killed_with_the_driver(
    driver: Driver, tmp_path: Path
) -> None:
    dies(driver)
    again = Driver(tmp_path, 2)
    again.hear(RingNumbers(0, 0, 0, 64, 0, 0), left=Answered(1, 0, 53, 4, 1))
    again.begin(50, resumed=True)
    assert again.lost == InFlight(), "what the start before had counted"
    other = Driver(tmp_path, 2)
    other.hear(RingNumbers(0, 0, 0, 64, 0, 0), left=Answered(1, 0, 51, 2, 2))
    assert other.book._before.answered == {0: (51, 2)}, "of a gateway in its place, all of it"


def test_driver_killed_while_a_node_is_lost(driver: Driver, tmp_path: Path) -> None:
    driver.book.node_lost(0)
    driver.hear(AT_DEATH)  # of whichever node: what is kept for the next start is written
    again = Driver(tmp_path, 2)
    again.hear(RingNumbers(0, 0, 0, 64, 0, 0), left=Answered(1, 0, 53, 4, 1))
    assert again.book._before.answered == {0: (53, 4)}


def test_counters_say_which_process_of_each_gateway_counts(tmp_path: Path) -> None:
    setup = Setup(Config(), "/run", 3, made=2)
    counters = begin_counting(tmp_path, setup, {1: 1, 2: 1}, 4)
    inflight.cells(counters.path, 1)[:] = 70, 5
    note_whose(tmp_path, setup, {1: 2, 2: 1})
    assert read_left(tmp_path) == {1: Answered(3, 2, 70, 5, 2), 2: Answered(3, 2, 0, 0, 1)}
