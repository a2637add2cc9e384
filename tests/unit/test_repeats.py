"""What comes again and again fills no log: tracebacks, lines of libraries, lines of one place."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.ipc.messages import LogLine
from server.run.logs import logged, relay
from server.run.repeats import LINES, LINES_PER_S, TEXT, TRACE, RepeatFilter


class Shown(logging.Handler):
    """Two handlers of one log, and the lines of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.lines: list[str] = []
        once = RepeatFilter(lambda: self.now)
        self.first = logging.NullHandler()
        for handler in (self.first, self):
            handler.addFilter(once)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def shown() -> Iterator[Shown]:
    one, root = Shown(), logging.getLogger()
    before = root.level
    root.setLevel(logging.INFO)
    for handler in (one.first, one):
        root.addHandler(handler)
    yield one
    root.setLevel(before)
    for handler in (one.first, one):
        root.removeHandler(handler)


def fails(text: str = "of a peer") -> None:
    raise ValueError(text)


def logs_failure(name: str = "gateway", fail: Callable[[], None] = fails) -> None:
    try:
        fail()
    except ValueError:
        logging.getLogger(name).exception("it failed")


@pytest.mark.promise("peers-fill-no-log")
def test_second_traceback_of_a_place_is_a_counted_line(shown: Shown) -> None:
    for _ in range(1000):
        logs_failure()
    assert len(shown.lines) == 1
    assert "Traceback" in shown.lines[0]
    shown.now += 11
    logs_failure()
    assert shown.lines[1:] == [
        "it failed: ValueError: of a peer (999 more times since the last line)"
    ]


def test_another_place_has_a_traceback_of_its_own(shown: Shown) -> None:
    logs_failure()
    logs_failure(fail=lambda: int("x"))  # type: ignore[arg-type, return-value]
    assert [line.count("Traceback") for line in shown.lines] == [1, 1]


@pytest.mark.parametrize("library", ["asyncio", "uvicorn.error"])
def test_line_of_a_library_comes_in_growing_pauses(
    shown: Shown, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger(library)
    monkeypatch.setattr(logger, "level", logger.level)  # it is put back
    logger.setLevel(logging.WARNING)  # a server that ran in this process has set it
    for number in range(1800):
        logging.getLogger(library).warning("request %d was no HTTP", number)
        shown.now += 1 / 64
    assert shown.lines[0] == "request 0 was no HTTP"
    assert len(shown.lines) == 2, "the next ones after 10 and 30 s"
    assert shown.lines[1].endswith("(639 more times since the last line)")


def test_lines_of_one_place_are_bounded(shown: Shown) -> None:
    def say(number: int) -> None:
        logging.getLogger("gateway").warning("line %d", number)

    for number in range(10_000):
        say(number)
    assert len(shown.lines) == LINES + 1
    logging.getLogger("gateway").warning("elsewhere")
    assert shown.lines[-1] == "elsewhere"
    shown.now += 3 / LINES_PER_S
    say(-1)
    assert shown.lines[-1] == f"line -1 ({9_999 - LINES} lines like this were not written)"


def test_long_texts_of_a_peer_are_cut(shown: Shown) -> None:
    logging.getLogger("gateway").warning("%s", "x" * 1_000_000)
    logs_failure(fail=lambda: fails("y" * 1_000_000))
    assert all(len(line) < TEXT + TRACE for line in shown.lines)


def test_relayed_line_is_not_limited_again(shown: Shown) -> None:
    for number in range(2 * LINES):
        relay(LogLine(logging.INFO, "trainer", f"line {number}"))
    assert len(shown.lines) == 2 * LINES


def test_traceback_is_in_a_line_of_json_too(tmp_path: Path) -> None:
    with logged(tmp_path / "log", form="json") as file:
        file.begin()
        for _ in range(100):
            logs_failure()
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert "Traceback" in json.loads(line)["text"]
