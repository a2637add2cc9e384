"""The dashboard's page that compares runs, in a real browser: folders of runs, and no games."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from config.models import Config
from server.control.mailbox import Mailbox
from server.monitor.status import Status
from server.web.server import HttpServer
from tests.support.browser import needs_chromium
from tests.support.page_checks import check_readable, wait_true
from tests.support.run_folders import evaluation, make_run

pytestmark = [
    pytest.mark.timeout(240),
    needs_chromium,
]

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    runs = tmp_path_factory.mktemp("compare") / "runs"
    for at in range(10):
        points = [
            evaluation(frames, at * frames / 100) for frames in range(0, 1001 + at * 100, 250)
        ]
        make_run(runs / f"run-{at}", points, game=HOSTILE, learner__gamma=0.9 + at / 1000)
    status = Status(
        config=Config(), folder=runs / "run-0", launch=1, started=0.0, looped_at=0.0, port=1
    )
    with HttpServer("127.0.0.1", 0, lambda: status, Mailbox(lambda *_: {})) as server:
        yield server


def opened(browser: Any, web: HttpServer, path: str) -> Any:
    """The page, once it has drawn; it asks nobody else and complains of nothing."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text)
            if message.type in ("error", "warning") and "status of 503" not in message.text
            else None)  # fmt: skip
    page.on("request", lambda asked: page.complaints.append(asked.url)
            if urlsplit(asked.url).port != web.port else None)  # fmt: skip
    page.goto(web.url + path)
    page.wait_for_selector("#curves figure canvas")
    return page


def closed(page: Any) -> None:
    complaints = page.complaints
    page.context.close()
    assert complaints == []


CHART = 'document.querySelector("#chart-evaluation").chart'
DRAWN = f"() => {CHART}.data.map((column) => [...column])"
KEYS = f"() => {CHART}.spec.lines.map((line) => [line.color, line.dash])"


def test_compare_page_draws_the_runs_of_its_address(browser: Any, web: HttpServer) -> None:
    page = opened(browser, web, "compare?run=run-1&run=run-4")
    x, first, second = page.evaluate(DRAWN)
    assert (x[0], x[-1]) == (0, 1250)
    assert [value for value in first if value is not None] == [0, 2.5, 5, 7.5, 10]
    assert [value for value in second if value is not None] == [0, 10, 20, 30, 40, 50]
    rows = page.locator("#settings tbody tr")
    assert rows.count() == 1
    assert rows.inner_text().split() == ["learner.gamma", "0.901", "0.904"]
    checked = page.eval_on_selector_all("#runs :checked", "boxes => boxes.map((box) => box.name)")
    assert sorted(checked) == ["run-1", "run-4"]
    closed(page)


def test_compare_page_without_an_address_shows_the_served_run_and_another(
    browser: Any, web: HttpServer
) -> None:
    page = opened(browser, web, "compare")
    checked = page.eval_on_selector_all("#runs :checked", "boxes => boxes.map((box) => box.name)")
    assert len(checked) == 2
    assert "run-0" in checked
    assert "this run" in page.locator("#runs tbody tr", has_text="run-0").inner_text()
    closed(page)


def test_compare_page_follows_the_choice_and_keeps_it_in_the_address(
    browser: Any, web: HttpServer
) -> None:
    page = opened(browser, web, "compare?run=run-1")
    for at in range(2, 9):
        page.check(f"[name=run-{at}]")
    wait_true(page, f"() => {CHART}.data.length === 9")
    assert page.is_disabled("[name=run-9]"), "eight are chosen"
    keys = [tuple(key) for key in page.evaluate(KEYS)]
    assert len(set(keys)) == 8, "no two are drawn alike"
    page.uncheck("[name=run-1]")
    wait_true(page, f"() => {CHART}.data.length === 8")
    assert page.is_enabled("[name=run-9]")
    page.select_option("#curve", "updates")
    page.wait_for_selector("#chart-updates canvas")
    assert "curve=updates" in page.url
    assert "run=run-1&" not in page.url
    page.reload()
    page.wait_for_selector("#chart-updates canvas")
    assert page.locator("#runs :checked").count() == 7
    closed(page)


def test_compare_page_is_readable_on_every_screen_size(browser: Any, web: HttpServer) -> None:
    page = opened(browser, web, "compare?run=run-1&run=run-2")
    page.wait_for_selector("#settings tbody tr")
    check_readable(page, 51)
    assert HOSTILE in page.inner_text("#runs tbody"), "a text, and no markup"
    closed(page)


def test_compare_page_goes_on_where_a_chosen_run_is_gone(browser: Any, web: HttpServer) -> None:
    page = opened(browser, web, "compare?run=nobody&run=run-2")
    assert len(page.evaluate(DRAWN)) == 2
    closed(page)
