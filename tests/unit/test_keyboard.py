"""Keys: each asks first, and does what the other ways of control do."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from server.control.mailbox import Answer
from server.tui.keyboard import HELP, NUMBERS, Keys


class Desk:
    """What keys ask for, and what is shown."""

    def __init__(self) -> None:
        self.paused = False
        self.asked: list[tuple[Any, str]] = []
        self.shown: list[str] = []
        self.answer: Answer | Future[Answer] = {"ok": True, "text": "done"}
        self.hints: list[str] = []
        self.keys = Keys(
            self, lambda: self.paused, {"epsilon": 0.125}.get, self.shown.append, self.hints.append
        )

    def handle(self, request: Any, who: str) -> Answer | Future[Answer]:
        self.asked.append((request, who))
        return self.answer

    def type(self, text: str) -> str:
        for char in text:
            self.keys.press(char)
        return self.shown[-1] if self.shown else ""


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize(
    ("typed", "question", "request_"),
    [
        ("p", "pause training?", {"pause": True}),
        ("c", "write a checkpoint now?", {"checkpoint": True}),
        ("e", "evaluate now?", {"evaluate": True}),
        ("r0.2\n", "set expert.ratio to 0.2?", {"set": {"expert.ratio": 0.2}}),
        ("x.05\r", "set exploration.epsilon to 0.05?", {"set": {"exploration.epsilon": 0.05}}),
        ("l1e-4\n", "set learner.learning_rate to 0.0001?",
         {"set": {"learner.learning_rate": 1e-4}}),
        ("l9\x7f3\n", "set learner.learning_rate to 3?", {"set": {"learner.learning_rate": 3.0}}),
    ],
)  # fmt: skip
def test_key_asks_confirmation_before_request(
    desk: Desk, typed: str, question: str, request_: Any
) -> None:
    for no in ("n", "q", " ", "\x1b"):
        assert question in desk.type(typed)
        assert "[y/n]" in desk.shown[-1]
        assert desk.type(no) == "canceled"
        assert desk.asked == []
    for yes in ("y", "Y", "\n"):
        desk.asked.clear()
        desk.type(typed)
        assert desk.type(yes) == "done"
        assert desk.asked == [(request_, "terminal")]


def test_pause_key_while_paused_resumes(desk: Desk) -> None:
    desk.paused = True
    assert "resume training?" in desk.type("p")
    desk.type("y")
    assert desk.asked == [({"pause": False}, "terminal")]


@pytest.mark.parametrize("typed", ["r\n", "r\x1b", "r1\x7f\n", "rx\n", "r--\n", "x1,5\n"])
def test_invalid_number_changes_nothing(desk: Desk, typed: str) -> None:
    last = desk.type(typed)
    assert last == "canceled" or last.endswith("nothing changed")
    desk.type("y")
    assert desk.asked == []


def test_number_prompt_shows_input_and_current_value(desk: Desk) -> None:
    assert desk.type("x") == f"{NUMBERS['x'][2]} (now 0.125): _"
    assert desk.type("0.2").endswith(": 0.2_")
    assert desk.type("\x7f").endswith(": 0._")
    assert desk.type("1" * 100).endswith("1_")
    assert len(desk.shown[-1]) < 80
    desk.type("\x1b")
    assert "now" not in desk.type("r"), "not known yet"


def test_help_lists_keys_and_pause_or_resume(desk: Desk) -> None:
    desk.keys.help()
    desk.paused = True  # by whomever
    desk.keys.help()
    playing, paused = desk.hints
    assert playing.startswith("p pause ")
    assert paused.startswith("p resume ")
    for key in NUMBERS:
        assert f"{key} " in HELP
    assert max(map(len, desk.hints)) <= 76


def test_unassigned_keys_do_nothing(desk: Desk) -> None:
    desk.type("pn")
    assert desk.type("z") == "", "the message goes"
    assert desk.asked == []
    desk.shown.clear()
    assert desk.type("\x1b\t") == "", "no key that anybody meant"


def test_answer_with_error_or_changes_shown_on_one_line(desk: Desk) -> None:
    desk.answer = {"error": "this is wrong\nand that"}
    assert desk.type("cy") == "this is wrong and that"
    desk.answer = {"changes": [{"key": "expert.ratio.end", "from": 0.5, "to": 0.1}]}
    assert desk.type("r.1\ny") == "expert.ratio.end: 0.5 -> 0.1"


def test_pending_answer_shows_ellipsis_until_done(desk: Desk) -> None:
    later: Future[Answer] = Future()
    desk.answer = later
    assert desk.type("cy") == "…"
    later.set_result({"ok": True, "text": "checkpoint written"})
    assert desk.shown[-1] == "checkpoint written"
