"""The game in the browser: Chromium plays over a WebSocket, trains, and a person takes over.

The page's Content-Security-Policy forbids code from text, so the page is asked from outside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from server.web.server import HttpServer
from tests.support.browser import needs_chromium
from tests.support.page_checks import check_readable, wait_true
from tests.support.running import Running

TOKEN = "a token for the games"

pytestmark = [
    pytest.mark.timeout(180),
    needs_chromium,
]


class Catch:
    """The page, in a context of its own, and what it complained about."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.context.set_default_timeout(60_000)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page = self.context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def text(self, selector: str) -> str:
        return str(self.page.text_content(selector))

    def number(self, selector: str) -> float:
        return float(self.text(selector).split()[0].replace(",", ""))

    def wait_text(self, selector: str, pattern: str) -> None:
        wait_true(
            self.page,
            "([where, what]) => new RegExp(what).test(document.querySelector(where).textContent)",
            [selector, pattern],
        )

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited in vain for {what}: {self.complaints}"
            self.page.wait_for_timeout(50)
        return found

    def enter(self, token: str) -> None:
        """Say the token that the page asks for."""
        self.wait_text("#problem", "bad_token")
        self.page.fill("#token", token)
        self.page.click("#door button")
        self.wait_text("#status", "^training$")


@pytest.fixture(scope="module")
def world(folder: Path) -> Iterator[tuple[Running, str]]:
    """A server with a token, and where its pages are."""
    settings: dict[str, Any] = {
        "server__websocket_port": 0,
        "server__token": TOKEN,
        "expert__ratio": {"start": 0.5, "end": 0.5, "frames": 1},
        "trainer__max_lag_updates": "none",
    }
    with Running(folder / "catch", **settings) as server:
        mailbox = server.supervisor.mailbox
        with HttpServer("127.0.0.1", 0, lambda: server.supervisor.status, mailbox) as http:
            yield server, http.url


@pytest.fixture
def catch(browser: Any, world: tuple[Running, str]) -> Iterator[Callable[..., Catch]]:
    made: list[Catch] = []

    def new(**context: Any) -> Catch:
        made.append(Catch(browser, f"{world[1]}catch", **context))
        return made[-1]

    yield new
    for one in made:
        one.context.close()


def test_game_on_the_page_trains_while_one_watches(
    catch: Callable[..., Catch], world: tuple[Running, str]
) -> None:
    """It asks for the token, plays several boards, and the server stores and learns."""
    server, url = world
    page = catch()
    page.page.goto(url)
    page.page.click("nav >> text=Play Catch")  # as one finds it from the dashboard
    page.enter(TOKEN)
    page.page.check("#fast")
    before = server.wait_rows()["steps_stored"]
    page.wait(lambda: page.number("#frames") > 300, "300 frames")
    page.wait(lambda: page.number("#version") > 0, "a newer policy")
    page.wait(lambda: page.number("#episodes") > 5, "balls that were caught or not")
    page.wait_text("#caught", r"^\d+ %$")
    server.until(lambda: server.row["steps_stored"] >= before + 250, "the steps are stored")
    server.until(lambda: server.row["buffer_expert"] > 50, "the script's moves are the expert's")
    server.until(lambda: server.row["buffer_dqn"] > 50, "the network moves, too")
    assert page.complaints == []
    hosts = {urlsplit(each).hostname for each in page.asked}
    assert hosts == {urlsplit(url).hostname}


def test_person_takes_over_with_a_key_and_gives_back(
    catch: Callable[..., Catch], world: tuple[Running, str]
) -> None:
    """What a person does is stored as the expert's; only that, while nothing is recommended."""
    server, _ = world
    page = catch()
    page.enter(TOKEN)
    page.page.uncheck("#script")  # the keys work with a box focused, too
    page.wait_text("#who", "the network")
    page.page.keyboard.down("ArrowLeft")
    page.wait_text("#who", "^you$")
    assert page.page.get_attribute("#over", "aria-pressed") == "true"
    row = server.wait_rows(3)
    dqn, expert = row["buffer_dqn"], row["buffer_expert"]
    server.until(lambda: server.row["buffer_expert"] >= expert + 30, "a person's moves")
    assert server.row["buffer_dqn"] == dqn, "every move of the person is the expert's"
    server.until(lambda: server.row["takeover_frames"] >= 30, "a person is told from a script")
    assert server.row["takeovers"] >= 1
    page.page.keyboard.up("ArrowLeft")
    page.page.focus("#board")
    page.page.keyboard.press(" ")
    page.wait_text("#who", "the network")
    server.until(lambda: server.row["buffer_dqn"] > dqn, "the network's moves")
    assert page.complaints == []


def test_exam_is_played_by_the_network_alone_and_not_stored(
    catch: Callable[..., Catch], world: tuple[Running, str]
) -> None:
    server, _ = world
    page = catch()
    page.enter(TOKEN)
    page.page.check("#exam")
    page.wait_text("#status", "^exam$")
    page.page.check("#fast")
    before = server.wait_rows(3)
    server.until(lambda: server.row["frames_eval"] >= before["frames_eval"] + 100, "an exam")
    assert server.row["steps_stored"] == before["steps_stored"]
    assert page.text("#who") == "the network"
    assert page.page.is_disabled("#over")
    assert page.complaints == []


def test_page_is_readable_and_fits_on_every_screen_size(catch: Callable[..., Catch]) -> None:
    page = catch()
    page.enter(TOKEN)
    check_readable(page.page, 16)
