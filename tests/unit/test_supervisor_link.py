from __future__ import annotations

from typing import Any

import pytest

from server.gateway.supervisor_link import SAVE_WANTED_S, SupervisorLink
from server.ipc.messages import Evaluate, Left, Pause, Proposed, SaveWanted, Settled, Stop
from tests.support.worlds import SPEC


class FakePipe:
    """What was sent, and what is to be received: an exception is raised."""

    def __init__(self, *incoming: Any) -> None:
        self.incoming = list(incoming)
        self.sent: list[Any] = []
        self.gone = False

    def poll(self) -> bool:
        return bool(self.incoming)

    def recv(self) -> Any:
        message = self.incoming.pop(0)
        if isinstance(message, Exception):
            raise message
        return message

    def send(self, message: Any) -> None:
        if self.gone:
            raise BrokenPipeError
        self.sent.append(message)


class FakeLoop:
    now = 50.0

    def time(self) -> float:
        return self.now


def link_with_ends(pipe: FakePipe, loop: Any = None) -> tuple[SupervisorLink, list[str]]:
    ends: list[str] = []
    made: Any = SupervisorLink
    return made(pipe, 3, loop or FakeLoop(), lambda: ends.append("gone")), ends


def test_receive_dispatches_messages_by_class_in_order() -> None:
    one, ends = link_with_ends(FakePipe(Evaluate(1), Stop(), Evaluate(2)))
    heard: list[Any] = []
    one.on(Evaluate, heard.append)
    one.on(Stop, lambda _: heard.append("stop"))
    one.receive()
    assert heard == [Evaluate(1), "stop", Evaluate(2)]
    assert ends == []


def test_receive_message_without_handler_is_ignored() -> None:
    one, ends = link_with_ends(FakePipe(Pause(True)))
    one.receive()
    assert ends == []


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError()])
def test_receive_after_supervisor_loss_handles_rest_then_ends(error: Exception) -> None:
    one, ends = link_with_ends(FakePipe(Evaluate(1), error))
    heard: list[Any] = []
    one.on(Evaluate, heard.append)
    one.receive()
    assert heard == [Evaluate(1)]
    assert ends == ["gone"]


def test_receive_handler_error_is_raised_not_treated_as_loss() -> None:
    one, ends = link_with_ends(FakePipe(Evaluate(1)))

    def fail(_: Evaluate) -> None:
        raise FileNotFoundError("a ring")

    one.on(Evaluate, fail)
    with pytest.raises(FileNotFoundError):
        one.receive()
    assert ends == []


def test_save_wanted_is_sent_at_limited_rate() -> None:
    pipe, loop = FakePipe(), FakeLoop()
    one, _ = link_with_ends(pipe, loop)
    for _ in range(3):
        one.save_wanted()
    assert pipe.sent == [SaveWanted()]
    loop.now += SAVE_WANTED_S
    one.save_wanted()
    assert pipe.sent == [SaveWanted()] * 2


def test_link_sends_messages_and_ignores_broken_pipe() -> None:
    pipe = FakePipe()
    one, _ = link_with_ends(pipe)
    one.propose(SPEC)
    one.left(7)
    one.settled(True)
    assert pipe.sent == [Proposed(SPEC), Left(7), Settled("gateway-3", True)]
    pipe.gone = True
    one.left(8)
    assert len(pipe.sent) == 3
