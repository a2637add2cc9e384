from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from server.gateway.newcomers import REST, SLICE_S, Newcomers
from tests.support.connection import HELLO, Wire

PIECE_S = 0.0004


class FakeLoop:
    """An event loop whose turns are made one by one, and a processor's clock."""

    def __init__(self) -> None:
        self.spent = 0.0
        self.done: list[str] = []
        self.rests: list[float] = []
        self.per_turn: list[int] = []
        self._due: list[Callable[[], None]] = []
        self.newcomers = Newcomers(self._due.append, self._later, self._games, lambda: self.spent)

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self.rests.append(seconds)
        self._due.append(what)

    def _games(self) -> None:
        self.done.append("games")
        self.spent += 0.01  # is no work for newcomers

    def piece(self, name: str = "piece", seconds: float = PIECE_S) -> Callable[[], None]:
        def work() -> None:
            self.done.append(name)
            self.spent += seconds

        return work

    def turn(self) -> None:
        """All that is due, once."""
        due, self._due[:] = list(self._due), []
        before = len(self.done) - self.done.count("games")
        for what in due:
            what()
        self.per_turn.append(len(self.done) - self.done.count("games") - before)

    def run(self) -> None:
        while self._due:
            self.turn()


@pytest.mark.promise("hostile-connections")
def test_a_crowd_is_served_a_slice_in_each_turn_and_rests_between() -> None:
    loop = FakeLoop()
    for _ in range(1000):
        loop.newcomers.add(loop.piece())
    assert loop.done == [], "nothing is done at once"
    loop.run()
    assert loop.done.count("piece") == 1000
    assert max(loop.per_turn) == 3, "1 ms, and the piece that was begun"
    assert all(rest >= REST * SLICE_S for rest in loop.rests[:-1])
    served_s = 1000 * PIECE_S
    assert sum(loop.rests) == pytest.approx(REST * served_s)


@pytest.mark.promise("hostile-connections")
def test_frames_are_answered_before_each_slice() -> None:
    loop = FakeLoop()
    for _ in range(7):
        loop.newcomers.add(loop.piece())
    loop.run()
    assert loop.done == ["games", *["piece"] * 3, "games", *["piece"] * 3, "games", "piece"]


def test_newcomers_are_served_in_the_order_in_which_they_came() -> None:
    loop = FakeLoop()
    for name in "abcde":
        loop.newcomers.add(loop.piece(name))
    loop.turn()
    loop.newcomers.add(loop.piece("f"))
    loop.run()
    assert [each for each in loop.done if each != "games"] == list("abcdef")
    assert len(loop.newcomers) == 0


@pytest.mark.promise("hostile-connections")
def test_one_long_piece_ends_its_slice_and_is_rested_for() -> None:
    loop = FakeLoop()
    loop.newcomers.add(loop.piece("long", 0.02))
    loop.newcomers.add(loop.piece("next"))
    loop.turn()
    assert loop.done == ["games", "long"]
    assert loop.rests == [pytest.approx(REST * 0.02)]


def test_newcomer_alone_is_served_in_the_next_turn() -> None:
    loop = FakeLoop()
    for _ in range(3):
        loop.newcomers.add(loop.piece())
        loop.turn()
        assert loop.per_turn[-1] == 1
        loop.run()
        assert not loop._due, "nobody is waited for"


def test_failure_of_one_is_logged_and_others_are_served(caplog: pytest.LogCaptureFixture) -> None:
    loop = FakeLoop()
    loop.newcomers.add(lambda: pytest.raises(1))  # type: ignore[call-overload]
    loop.newcomers.add(loop.piece())
    loop.run()
    assert "piece" in loop.done
    assert len(caplog.records) == 1


# Connections.


class Crowd:
    """Connections whose newcomers wait until `serve`."""

    def __init__(self, size: int) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.wires = [Wire() for _ in range(size)]
        for wire in self.wires:
            wire.gateway.newcomers = self  # type: ignore[assignment]

    def add(self, work: Callable[[], None]) -> None:
        self.waiting.append(work)

    def serve(self) -> None:
        due, self.waiting = self.waiting, []
        for work in due:
            work()


def framed(*elements: Any) -> bytes:
    body = msgspec.msgpack.encode(elements)
    return len(body).to_bytes(4, "big") + body


BAD = framed(1, {"protocol": 1, "client": "", "game": 5})


@pytest.mark.promise("hostile-connections")
@pytest.mark.parametrize(
    "what",
    [
        lambda wire: wire.receive(HELLO),
        lambda wire: wire.receive(BAD),
        lambda wire: wire.receive(b"GET / HTTP/1.1\r\n\r\n"),
        lambda wire: wire.receive(HELLO[:9]),
        lambda wire: wire.connection.eof_received(),
        lambda wire: wire.check_after(11.0),
    ],
    ids=["hello", "bad hello", "no hello", "half a hello", "end", "deadline"],
)
def test_nothing_is_done_for_a_newcomer_before_its_turn(
    monkeypatch: pytest.MonkeyPatch, what: Callable[[Wire], Any]
) -> None:
    crowd = Crowd(20)
    with monkeypatch.context() as forbidden:
        for wire in crowd.wires:
            forbidden.setattr(type(wire.connection.session), "receive", _fail)
            forbidden.setattr(type(wire.connection), "fail", _fail)
            what(wire)
            assert not wire.transport.reading, "one piece, and it is read from no more"
    assert len(crowd.waiting) == 20
    crowd.serve()
    assert not crowd.waiting
    for wire in crowd.wires:
        assert wire.transport.reading


def _fail(*_: Any) -> None:
    raise AssertionError("worked for a newcomer before its turn")


def test_all_that_waits_of_one_connection_is_one_piece() -> None:
    crowd = Crowd(1)
    (wire,) = crowd.wires
    wire.receive(HELLO[:10])
    wire.receive(HELLO[10:])
    wire.connection.eof_received()
    assert len(crowd.waiting) == 1
    crowd.serve()
    assert wire.gateway.hellos == [wire.connection]


def test_waiting_for_its_turn_is_not_the_newcomers_delay() -> None:
    crowd = Crowd(1)
    (wire,) = crowd.wires
    wire.check_after(9.0)
    wire.receive(HELLO)
    wire.check_after(100.0)
    crowd.serve()
    assert wire.code is None
    assert wire.connection.waits_for_welcome


def test_hello_that_comes_with_the_deadline_is_heard() -> None:
    crowd = Crowd(1)
    (wire,) = crowd.wires
    wire.check_after(11.0)
    wire.receive(HELLO)
    crowd.serve()
    assert wire.code is None
    assert wire.connection.waits_for_welcome


def test_newcomer_that_has_gone_meanwhile_is_left_alone() -> None:
    crowd = Crowd(1)
    (wire,) = crowd.wires
    wire.receive(HELLO)
    wire.connection.connection_lost(None)
    crowd.serve()
    assert wire.gateway.hellos == []


def test_games_wait_for_no_newcomer() -> None:
    crowd = Crowd(1)
    (wire,) = crowd.wires
    wire.gateway.newcomers = newcomers_at_once = crowd  # type: ignore[assignment]
    wire.receive(HELLO)
    crowd.serve()
    wire.receive(framed(4, 1))
    assert newcomers_at_once.waiting == []
    assert len(wire.messages()) == 1


def test_broken_connection_of_a_newcomer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd(1)
    (wire,) = crowd.wires
    monkeypatch.setattr(type(wire.connection), "_take_in", _fail)
    wire.receive(HELLO)
    with pytest.raises(AssertionError):
        crowd.serve()
    assert wire.transport.aborted


# The deadlines of many.


@pytest.mark.promise("hostile-connections")
def test_deadlines_of_a_crowd_are_checked_some_in_each_turn() -> None:
    from server.gateway import gateway as module

    checked: list[int] = []
    per_turn: list[int] = []
    soon: list[Callable[[], None]] = []
    later: list[float] = []

    class Loop:
        def call_soon(self, what: Callable[..., None], *args: Any) -> None:
            soon.append(lambda: what(*args))

        def call_later(self, seconds: float, _what: Callable[[], None]) -> None:
            later.append(seconds)

    class Connection:
        def __init__(self, number: int) -> None:
            self.number = number

        def check(self, _now: float) -> None:
            checked.append(self.number)

    it: Any = module.Gateway.__new__(module.Gateway)
    it._loop, it.now = Loop(), lambda: 1.0
    it._check([Connection(number) for number in range(1000)])
    while True:
        per_turn.append(len(checked) - sum(per_turn))
        if not soon:
            break
        soon.pop()()
    assert sorted(checked) == list(range(1000))
    assert max(per_turn) <= module.SWEPT
    assert later == [module.SWEEP_S]
