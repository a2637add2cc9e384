"""Requests from other threads, without a server."""

from __future__ import annotations

import select
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from server.control.mailbox import NOT_NOW, Answer, Mailbox, parse


def serve_once(box: Mailbox, timeout_s: float = 5.0) -> bool:
    """One round of a loop; whether there was anything to do."""
    ready = select.select(box.waitables, [], [], timeout_s)[0]
    for each in ready:
        box.serve(each)
    return bool(ready)


def test_mailbox_requests_are_handled_in_thread_of_loop() -> None:
    threads: list[Any] = []

    def handle(request: Any, who: str) -> Answer:
        threads.append(threading.current_thread())
        return {"n": request, "who": who}

    box = Mailbox(handle)
    box.open()
    futures: list[Future[Answer]] = []
    asking = threading.Thread(target=lambda: futures.extend(box.ask(n, "me") for n in range(5000)))
    asking.start()
    asking.join(20.0)
    assert not asking.is_alive(), "who asks never waits for the loop, however many ask"
    while serve_once(box, 0.0):
        pass
    assert [future.result(0) for future in futures] == [{"n": n, "who": "me"} for n in range(5000)]
    assert set(threads) == {threading.current_thread()}
    box.close()


def test_mailbox_answer_given_as_future_arrives_when_set() -> None:
    later: Future[Answer] = Future()
    box = Mailbox(lambda *_: later)
    box.open()
    future = box.ask(1, "me")
    assert serve_once(box)
    assert not future.done()
    later.set_result({"ok": True})
    assert future.result(0) == {"ok": True}
    box.close()


def test_mailbox_when_not_open_answers_not_now() -> None:
    box = Mailbox(lambda *_: {})
    assert box.ask(1, "me").result(0) == NOT_NOW
    box.open()
    waiting = box.ask(1, "me")
    box.close()
    assert waiting.result(0) == NOT_NOW
    assert box.ask(1, "me").result(0) == NOT_NOW
    assert box.waitables == []
    box.close()  # again


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "1e999", "{", "", "[" * 5000, '"\\ud800"'])
def test_parse_invalid_json_raises_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text.encode())
    assert parse(b'{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
