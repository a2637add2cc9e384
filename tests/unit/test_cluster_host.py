"""An actor's end of an exchange: orders are carried out once, by the incarnation they are for."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from config.models import Config
from server.cluster import host
from server.cluster.host import ProcessHost
from server.cluster.messages import Setup, Start, StopListening


class Noting(ProcessHost):
    """Notes its orders."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Any] = []

    def carry_out(self, order: Any) -> None:
        self.done.append(order)


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Noting:
    monkeypatch.setattr(host.fork_server, "prepare", lambda: None)
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    return Noting()


def test_orders_for_another_incarnation_are_not_carried_out(actor: Noting) -> None:
    reply = actor.exchange("", 0, [StopListening()], 0.0)
    again = actor.exchange("other", 5, [StopListening()], 0.0)
    assert actor.done == []
    assert reply.incarnation == again.incarnation != ""
    assert reply.pid > 0


def test_exchange_whose_reply_was_lost_is_answered_as_before(actor: Noting) -> None:
    own = actor.exchange("", 0, [], 0.0).incarnation
    setup = Setup(Config(), "/run", 1)
    first = actor.exchange(own, 0, [setup], 0.0)
    assert actor.exchange(own, 0, [setup], 0.0) is first
    assert actor.done == [setup]
    second = actor.exchange(own, 1, [StopListening()], 0.0)
    assert second is not first
    assert actor.exchange(own, 0, [setup], 0.0) is second, "one that comes late does nothing"
    assert actor.done == [setup, StopListening()]


@pytest.mark.parametrize("part", ["carry_out", "_wait", "_collect", "complete"])
def test_exchange_of_which_a_part_fails_is_answered_and_nothing_is_done_twice(
    actor: Noting, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    own = actor.exchange("", 0, [], 0.0).incarnation

    def fail(*_: Any) -> None:
        actor.done.append("failed")
        raise KeyError("gateway-7")

    monkeypatch.setattr(actor, part, fail)
    first = actor.exchange(own, 0, [StopListening()], 0.0)
    assert first.error == "KeyError: 'gateway-7'"
    done = list(actor.done)
    assert actor.exchange(own, 0, [StopListening()], 0.0) is first
    assert actor.done == done


def test_order_after_one_that_fails_is_carried_out(actor: Noting) -> None:
    own = actor.exchange("", 0, [], 0.0).incarnation
    unknown = Start("gateway-0", 1, Config())  # this actor starts none
    reply = actor.exchange(own, 0, [unknown, StopListening()], 0.0)
    assert reply.error.startswith("NotImplementedError")
    assert actor.done == [StopListening()]
