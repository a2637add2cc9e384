"""Rows that are sent again, cut off or asked for anew arrive once each and in order, and what is
missing is told."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.source import UNKNOWN, Hole, NextRows, Origin, Source

A, B = Source(0, 1), Source(7, 3)
few = st.integers(0, 7)


class Delivery(RuleBasedStateMachine):
    """Two gateways number rows and send what was not acknowledged; a receiver keeps them. Anything
    may be sent again, cut off on the way, or happen after a restart."""

    @initialize()
    def begin(self) -> None:
        self.written = {A: 0, B: 0}
        self.acknowledged = {A: 0, B: 0}
        self.kept: list[tuple[Origin, int]] = []  # the receiver's journal
        self.received: dict[Source, list[int]] = {A: [], B: []}
        self.wanted = NextRows()

    @rule(who=st.sampled_from([A, B]), n=few)
    def write(self, who: Source, n: int) -> None:
        self.written[who] += n

    @rule(who=st.sampled_from([A, B]), skipped=few, n=few, heard=st.booleans())
    def send(self, who: Source, skipped: int, n: int, heard: bool) -> None:
        """`skipped`: rows that were sent before and got lost on the way. `heard`: the
        acknowledgement arrives."""
        first = min(self.acknowledged[who] + skipped, self.written[who])
        at, rows = Origin(who, first), min(n, self.written[who] - first)
        if (hole := self.wanted.hole(at)) is not None:
            assert (hole.first, hole.stop) == (len(self.received[who]), first)
            return  # refused: the sender begins again behind what was acknowledged
        had = self.wanted.take(at, rows)
        if had < rows:
            self.kept.append((at.behind(had), rows - had))
            self.received[who] += range(first + had, first + rows)
        if heard:
            self.acknowledged[who] = max(self.acknowledged[who], first + rows)

    @rule()
    def receiver_restarts(self) -> None:
        """It knows again from what it kept."""
        self.wanted = NextRows()
        if self.kept:
            origins = np.array([(*at.source, at.first) for at, _ in self.kept], np.int64)
            rows = np.array([n for _, n in self.kept], np.int64)
            self.wanted.take_many(origins, rows, all_kept=True)
        assert (self.wanted.missing, self.wanted.doubled) == (0, 0)

    @rule(who=st.sampled_from([A, B]))
    def sender_restarts(self, who: Source) -> None:
        """It asks what is wanted: what was kept and not acknowledged need not be sent again."""
        self.acknowledged[who] = self.wanted.wanted(who)

    @invariant()
    def each_row_arrived_once_and_in_order(self) -> None:
        for who, rows in self.received.items():
            assert rows == list(range(len(rows)))
            assert self.wanted.wanted(who) == len(rows) >= self.acknowledged[who]


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

blocks = st.lists(
    st.tuples(st.sampled_from([A, B, UNKNOWN]), st.integers(0, 20), st.integers(1, 9)), max_size=12
)


@settings(max_examples=100, deadline=None)
@given(blocks=blocks, all_kept=st.booleans())
def test_many_blocks_at_once_count_as_one_after_the_other(
    blocks: list[tuple[Source, int, int]], all_kept: bool
) -> None:
    one, many = NextRows(), NextRows()
    had: set[tuple[Source, int]] = set()
    for source, first, rows in blocks:
        if not all_kept:
            one.begin(Origin(source, first))
        again = {(source, row) for row in range(first, first + rows)} & had
        taken = one.take(Origin(source, first), rows)
        assert source == UNKNOWN or taken >= len(again), "a row that came before is cut"
        had |= {(source, row) for row in range(first, first + rows)}
    for part in (blocks[:5], blocks[5:]):
        origins = np.array([(*source, first) for source, first, _ in part], np.int64)
        rows = np.array([n for _, _, n in part], np.int64)
        many.take_many(origins.reshape(-1, 3), rows, all_kept=all_kept)
    assert one.sources == many.sources
    assert (one.missing, one.doubled) == (many.missing, many.doubled)


def test_hole_says_which_rows_of_which_gateway_are_missing() -> None:
    wanted = NextRows()
    wanted.take(Origin(B, 0), 5)
    assert wanted.hole(Origin(B, 5)) is None
    assert wanted.hole(Origin(B, 3)) is None
    hole = wanted.hole(Origin(B, 9))
    assert hole == Hole(B, 5, 9)
    assert str(hole) == (
        "rows 5 to 8 of gateway 7 of start 3 are missing: expected row 5 next, got row 9"
    )
    wanted.take(Origin(B, 9), 1)
    assert wanted.missing == 4


def test_rows_that_nobody_numbered_are_all_taken() -> None:
    wanted = NextRows()
    wanted.begin(Origin(UNKNOWN, 5))
    for _ in range(2):
        assert wanted.hole(Origin(UNKNOWN, 50)) is None
        assert wanted.take(Origin(UNKNOWN, 0), 5) == 0
    assert wanted.sources == {}
