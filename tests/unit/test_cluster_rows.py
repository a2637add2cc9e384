"""Rows between machines: a gateway's ring, its shipper, and the ring where its learner reads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from agent.source import Source
from agent.step import STEP, StepBlock
from protocol.spaces import Discrete, GameSpec, Observation
from server.cluster.blocks import packed, unpacked
from server.cluster.inbox import NOT_YET, Inbox
from server.cluster.messages import Delivery, Receipt
from server.cluster.shipper import BLOCK_ROWS, Shipper
from server.cluster.traffic import CALM_S, SOON_S, pause_s
from server.ipc.step_ring import StepRing

SPEC = GameSpec("g", Observation("float32", (3,)), (Discrete("a", 2),))
CAPACITY = 64


def block(first: int, n: int) -> StepBlock:
    """Rows whose `seq` is their number."""
    rows = StepBlock.empty(SPEC, n)
    rows.seq[:] = np.arange(first, first + n)
    rows.obs[:] = rows.seq[:, None]
    rows.kind[:] = STEP
    rows.actor[:] = 1
    return rows


class Pair:
    """A gateway's ring and a learner's, and the way between them."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.ring = StepRing.create(SPEC, CAPACITY, Source(0, 1))
        self.inbox = Inbox(SPEC, (0,), capacity, 0, 1)
        self.shipper = Shipper(self.ring, SPEC, 0, 0, self.deliver)
        self.written = 0
        self.read: list[int] = []
        self.away = False
        self.allowed = 100

    def deliver(self, delivery: Delivery) -> Receipt:
        if self.away:
            raise ConnectionError
        return self.inbox.take(delivery, self.allowed)

    def write(self, n: int) -> None:
        self.ring.write(block(self.written, n))
        self.written += n

    def learn(self, limit: int = CAPACITY) -> None:
        """What a trainer does: read, keep, release."""
        ring = self.inbox.rings[0]
        rows = ring.read(limit)
        if rows is not None:
            self.read += rows.seq.tolist()
            n = len(rows)
            del rows
            ring.release(n)

    def restart_learner(self) -> None:
        self.inbox.close()
        self.inbox = Inbox(SPEC, (0,), CAPACITY, 0, 1)

    def close(self) -> None:
        self.inbox.close()
        self.ring.close()
        self.ring.unlink()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_rows_packed_are_the_rows_unpacked() -> None:
    rows = block(5, 7)
    again = unpacked(packed(rows, SPEC, 0), 7, SPEC, 0)
    for name in StepBlock.__slots__:
        np.testing.assert_array_equal(getattr(again, name), getattr(rows, name))
    with pytest.raises(ValueError, match=r"expected \d+ bytes for 80 rows"):
        unpacked(packed(rows, SPEC, 0), 80, SPEC, 0)


def test_rows_are_let_go_of_once_the_learner_has_kept_them(pair: Pair) -> None:
    pair.write(10)
    pair.shipper.step()
    pair.shipper.step()
    assert pair.ring.used == 10, "they were received, and not kept"
    assert pair.inbox.used == 10
    pair.learn()
    pair.shipper.step()
    assert pair.ring.used == 0
    assert pair.read == list(range(10))


def test_receipt_that_was_lost_doubles_no_row(pair: Pair) -> None:
    pair.write(10)
    sent = pair.deliver

    def lose(delivery: Delivery) -> Receipt:
        sent(delivery)
        raise ConnectionError

    pair.shipper._send = lose
    with pytest.raises(ConnectionError):
        pair.shipper.step()
    pair.shipper._send = sent
    pair.shipper.step()
    pair.learn()
    assert pair.read == list(range(10))


def test_ring_can_be_closed_while_the_error_of_a_delivery_is_held() -> None:
    def lose(_: Delivery) -> Receipt:
        raise ConnectionError

    ring = StepRing.create(SPEC, CAPACITY, Source(0, 1))
    ring.write(block(0, 10))
    with pytest.raises(ConnectionError) as held:
        Shipper(ring, SPEC, 0, 0, lose).step()
    ring.close()  # BufferError, if there is a view of it
    ring.unlink()
    assert held.tb is not None


def test_learner_that_is_made_anew_gets_what_it_had_not_kept(pair: Pair) -> None:
    pair.write(10)
    pair.shipper.step()
    pair.learn(4)
    pair.shipper.step()
    pair.write(3)
    pair.shipper.step()
    pair.restart_learner()  # rows 4 to 12 were received
    while pair.shipper.step():
        pass
    pair.shipper.step()
    pair.learn()
    assert pair.read == list(range(13))
    assert pair.inbox.rings[0].origin.first == 13, "the numbers are the gateway's"


def test_gateways_ring_that_is_made_anew_begins_behind_rows_that_came(pair: Pair) -> None:
    pair.write(6)
    pair.shipper.step()
    again = StepRing.create(SPEC, CAPACITY, Source(0, 1 + (1 << 20)))
    try:
        again.write(block(100, 2))
        shipper = Shipper(again, SPEC, 0, 0, pair.deliver)
        assert not shipper.step(), "rows of the ring before wait"
        assert pair.inbox.take(Delivery(0, 1 + (1 << 20), 0, 0, None, 0, 0, 0, 0), 0) == NOT_YET
        pair.learn()
        shipper.step()  # the learner says which row it wants
        shipper.step()
        pair.learn()
        assert pair.read == [*range(6), 100, 101]
        assert pair.inbox.rings[0].origin.source == Source(0, 1 + (1 << 20))
    finally:
        again.close()
        again.unlink()


def test_rows_of_a_machine_that_was_taken_for_lost_are_not_taken(pair: Pair) -> None:
    newer = 1 + (1 << 20)
    pair.inbox.take(Delivery(0, newer, 0, 0, None, 0, 0, 0, 0), 0)
    pair.write(3)
    assert not pair.shipper.step()
    assert pair.inbox.used == 0
    assert pair.inbox.rings[0].origin.source == Source(0, newer)


def test_full_ring_of_the_learner_holds_the_gateways_back() -> None:
    pair = Pair(capacity=8)
    try:
        pair.write(20)
        for _ in range(5):
            pair.shipper.step()
        assert pair.inbox.used == 8
        for _ in range(5):
            pair.learn()
            pair.shipper.step()
        pair.learn()
        assert pair.read == list(range(20))
    finally:
        pair.close()


def test_frames_that_may_be_answered_are_counted_as_the_gateway_counts_them(pair: Pair) -> None:
    pair.write(10)
    pair.ring.answered = 12
    pair.shipper.step()
    pair.learn()
    pair.shipper.step()
    assert pair.inbox.rings[0].answered == 12
    assert pair.shipper.allowed == 100
    pair.restart_learner()  # which counts from 0
    pair.write(1)
    pair.ring.answered = 15
    pair.shipper.step()
    pair.shipper.step()
    assert pair.inbox.rings[0].answered == 5
    assert pair.shipper.allowed == 110


def test_frames_that_other_nodes_answered_are_taken_off() -> None:
    inbox = Inbox(SPEC, (0, 1), CAPACITY, 0, 1)
    try:
        for gateway, answered in ((0, 30), (1, 5)):
            inbox.take(Delivery(gateway, 1, 0, 0, None, answered, 0, 0, gateway), 100)
        first = inbox.take(Delivery(0, 1, 0, 0, None, 30, 0, 0, 0), 100)
        second = inbox.take(Delivery(1, 1, 0, 0, None, 5, 0, 0, 1), 100)
        assert first.allowed == 95
        assert second.allowed == 70
    finally:
        inbox.close()


def test_block_is_large_enough_for_its_call() -> None:
    assert BLOCK_ROWS >= 4096


def test_deliveries_are_rare_while_games_are_far_from_what_they_may_play() -> None:
    assert pause_s(left=1_000_000, played=200, seconds=0.01) == CALM_S
    assert pause_s(left=5, played=0, seconds=0.05) == CALM_S


def test_deliveries_are_frequent_while_games_wait_or_soon_will() -> None:
    assert pause_s(left=0, played=0, seconds=0.01) == SOON_S
    assert pause_s(left=0, played=10, seconds=0.01) == SOON_S
    assert pause_s(left=150, played=10, seconds=0.01) == SOON_S, "150 ms of play"
