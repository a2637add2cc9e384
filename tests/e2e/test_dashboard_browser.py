"""The dashboard in a real browser, beside a server that real games play on.

Debian's Chromium is driven by Playwright. The tests share one server and follow its life: no game,
games, changed settings, a server that is gone, and the same run started again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from config.models import Config
from protocol.actor import Actor
from server.control.mailbox import Mailbox
from server.monitor.metrics import SERIES
from server.monitor.status import Status
from server.run.events import process_ids, read_events
from server.web.server import HttpServer
from tests.support.browser import needs_chromium
from tests.support.page_checks import LOW_CONTRAST, NO_OVERFLOW, check_readable, wait_true
from tests.support.preloaded import Understudy
from tests.support.processes import descendants, end
from tests.support.running import RawClient, Running, client_for, hello_fields
from tests.support.tempest_client import TempestClient

pytestmark = [
    pytest.mark.timeout(480),
    needs_chromium,
]

ROOT = Path(__file__).parents[2]
TOKEN = "tökén for controls"
"""Of letters that are more than a byte too."""
PHONE, DESK = (390, 844), (1440, 900)
PATIENCE_S = 120.0

ENVIRONMENT = {
    "UNDERSTUDY_SERVER__CONTROL_TOKEN": TOKEN,
    # Games find the tests' experts.
    "PYTHONPATH": os.pathsep.join(
        [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    ),
}

SERVER = {
    "server.port": "0",
    "server.http_port": "0",
    "learner.hidden": "[16]",
    "learner.batch_size": "16",
    "trainer.device": "cpu",
    "trainer.threads": "1",
    "trainer.min_steps": "100",
    "metrics.every_s": "0.25",
    "run.seed": "1",
}


class Command:
    """A command of understudy in a process of its own."""

    def __init__(self, *words: str, **settings: str) -> None:
        self.text = ""
        self.process = Understudy(
            *words,
            env=os.environ | ENVIRONMENT | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line

    def find(self, pattern: str) -> str:
        """What the pattern's group matches in the output, once it does."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.text)
            assert match or self.process.poll() is None, f"it has ended: {self.text}"
            return match

        match: re.Match[str] = until(found, f"{pattern!r} in the output")
        return match[1]

    def stop(self) -> None:
        """End it and all that it started; again has no effect."""
        below = descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for pid in below:
            end(pid)
        self._reader.join(10.0)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Life:
    """The server, its run and its games."""

    def __init__(self, run: Path, **more: str) -> None:
        self.run = run
        self.games: Command | None = None
        settings = SERVER | more
        options = [word for key, value in settings.items() for word in (f"--{key}", value)]
        self.serve = Command("serve", "--run", str(run), *options)
        self.url = ""

    def start(self) -> None:
        """Wait until it can be visited."""
        self.url = self.serve.find(r"dashboard: (http://\S+)")

    def play(self) -> None:
        """Have two games of CartPole play, evaluated at first, as a user would start them."""
        port = self.serve.find(r"listens on 127\.0\.0\.1:(\d+)")
        self.games = Command(
            "play", "--env", "CartPole-v1", "--expert", "tests.support.fake_games:at_leisure",
            "--clients", "2", "--seed", "1",
            "--connect", f"127.0.0.1:{port}", "--frames", "1000000",
            "--eval-every", "500000", "--eval-episodes", "3",
        )  # fmt: skip

    def again(self) -> None:
        """Start the run once more, at the same address; without a token for controls."""
        port = str(urlsplit(self.url).port)
        self.serve = Command(
            "serve", "--resume", str(self.run), "--server.http_port", port,
            UNDERSTUDY_SERVER__CONTROL_TOKEN="none",
        )  # fmt: skip
        self.serve.find(r"dashboard: (http://\S+)")

    def ask(self, path: str) -> Any:
        """What the server answers, past the browser."""
        with urlopen(self.url + path) as answer:
            return json.load(answer)

    def control(self, what: dict[str, Any]) -> None:
        """Have something done, past the browser."""
        head = {"Authorization": f"Bearer {TOKEN}".encode().decode("latin-1")}
        asked = Request(self.url + "api/control", json.dumps(what).encode(), head)
        with urlopen(asked) as answer:
            assert "error" not in json.load(answer)

    def changes(self) -> list[dict[str, Any]]:
        file = self.run / "changes.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def close(self) -> None:
        if self.games is not None:
            self.games.stop()
        self.serve.stop()


def until(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    life = Life(tmp_path_factory.mktemp("dashboard") / "run")
    try:
        life.start()
        yield life
    finally:
        life.close()


class Visit:
    """A page of its own, and all that it asked for and complained about."""

    def __init__(
        self,
        browser: Any,
        life: Life | HttpServer,
        size: tuple[int, int] = DESK,
        scheme: str = "light",
    ) -> None:
        self.life = life
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
        )
        self.context.set_default_timeout(PATIENCE_S * 1000)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.refusals_meant = 0
        """Answers that are errors and were provoked: the browser itself notes each."""
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            if self.refusals_meant and "status of 4" in message.text:
                self.refusals_meant -= 1
            else:
                self.complaints.append(message.text)

    def open(self, path: str = "") -> Any:
        self.page.goto(self.life.url + path)
        self.page.wait_for_selector("#status:not([data-is=waiting])")
        return self.page

    def text(self, selector: str) -> str:
        found: str = self.page.inner_text(selector)
        return found

    def wait_text(self, selector: str, pattern: str) -> None:
        """Wait until the text there has the pattern."""
        wait_true(
            self.page,
            "([where, what]) => new RegExp(what).test(document.querySelector(where)?.innerText)",
            [selector, pattern],
        )

    def close(self) -> None:
        self.context.close()
        origin = urlsplit(self.life.url)
        outside = [url for url in self.asked if urlsplit(url)[:2] != origin[:2]]
        assert self.asked
        assert outside == []
        assert self.complaints == []


@pytest.fixture
def visit(browser: Any, life: Life) -> Iterator[Callable[..., Visit]]:
    made: list[Visit] = []

    def new(*args: Any, **more: Any) -> Visit:
        made.append(Visit(browser, life, *args, **more))
        return made[-1]

    yield new
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def playing(life: Life) -> Life:
    """Games play, the network learns, and an evaluation has ended."""
    if life.games is None:
        life.play()
    ended = ("eval_return_mean", "expert_return_mean", "td_err_mean_dqn", "grad_share_expert")

    def learnt() -> bool:
        last = life.ask("api/state")["last"]
        return all(last[name] is not None for name in ended)

    until(learnt, "an evaluation and updates", 2 * PATIENCE_S)
    return life


INK = """() => {
    const charts = [...document.querySelectorAll("#actors figure, #chart-updates_per_s")]
        .map((figure) => figure.chart);
    const near = (pixels, at, ink) => pixels[at + 3] > 150
        && ink.every((wanted, c) => Math.abs(pixels[at + c] - wanted) < 40);
    return charts.flatMap((chart) => chart.plots.map((plot, panel) => {
        const name = `--${chart.spec.lines[panel].color}`;
        const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
        const ink = [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
        const { width, height } = plot.ctx.canvas;
        const pixels = plot.ctx.getImageData(0, 0, width, height).data;
        let [hits, points] = [0, 0];
        plot.data[0].forEach((x, i) => {
            const y = plot.data[1][i];
            if (y === null) return;
            const left = Math.round(plot.valToPos(x, "x", true));
            const top = Math.round(plot.valToPos(y, "y", true));
            points += 1;
            let hit = false;
            for (let row = top - 2; row <= top + 2; row++) {
                for (let column = left - 2; column <= left + 2; column++) {
                    hit ||= near(pixels, 4 * (row * width + column), ink);
                }
            }
            hits += hit;
        });
        return [chart.spec.id, hits, points];
    }));
}"""


# Without a game.


def test_dashboard_without_data_says_what_is_missing(
    life: Life, visit: Callable[..., Visit]
) -> None:
    seen = visit()
    page = seen.open()
    assert seen.text("#run-game") == "no game yet"
    assert "start games, for example: understudy play --env" in seen.text("#no-games")
    reach = page.evaluate("""() => import("/static/games.js").then(({ fillTable }) => {
        fillTable([], { text: "start your game 'reach'", command: "" });
        return document.getElementById("no-games").innerText;
    })""")
    assert reach.strip() == "No game is connected: start your game 'reach'"
    assert page.is_hidden("#games-table")
    assert seen.text("#chart-evaluation .frame .none") == "No evaluation yet."
    # Who plays how much is known as soon as the gateways are there, which may be by now.
    assert seen.text("#chart-schedules .frame .none") in ("No frames yet.", "")
    page.wait_for_selector("#chart-schedules .frame .none", state="hidden")
    assert page.locator("#chart-td_err_mean .frame .none:visible").count() == 2
    assert "the replay is filling up" in seen.text("#chart-loss .frame .none")
    life.control({"pause": True})
    seen.wait_text("#chart-loss .frame .none", r"^Training is paused\.$")
    assert seen.text("#chart-q_mean .frame .none") == "Training is paused."
    life.control({"pause": False})
    seen.wait_text("#chart-loss .frame .none", "filling up")
    assert seen.text("#replay") == "The replay is empty."
    assert seen.text("#tiles [data-fact='Evaluation, dqn'] dd") == "none yet"
    assert "NaN" not in seen.text("body")
    assert "null" not in seen.text("body")


# With games.


def test_charts_draw_the_history(playing: Life, visit: Callable[..., Visit]) -> None:
    page = visit().open()
    wait_true(page, "document.querySelector('#chart-latency').chart.data[0].length > 10")
    shown = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("[data-charts] figure")]
            .map((figure) => figure.chart)
            .filter((chart) => chart.rows)
            .map(({ spec, data, rows, history }) => [spec.id, {
                keys: spec.lines.map((line) => line.key),
                times: rows.map((row) => row === null ? null : history.times[row]),
                lines: data.slice(1),
            }]))"""
    )
    answer = playing.ask("api/history?points=4096")
    columns = answer["columns"]
    rows = {row[0]: row for row in answer["rows"]}
    assert {"frames_per_s", "latency", "updates_per_s", "loss", "td_err_mean", "q_mean"} <= set(
        shown
    )
    compared = 0
    for chart in shown.values():
        for key, line in zip(chart["keys"], chart["lines"], strict=True):
            assert any(value is not None for value in line), f"{key} has no points"
            for moment, value in zip(chart["times"], line, strict=True):
                if moment is not None:
                    assert value == rows[moment][columns.index(key)], key
                    compared += 1
    assert compared > 200


@pytest.mark.usefixtures("playing")
def test_loss_chart_has_a_line_for_every_part(visit: Callable[..., Visit]) -> None:
    page = visit().open()
    page.wait_for_selector("#chart-loss")
    spec = page.evaluate("document.querySelector('#chart-loss').chart.spec")
    parts = [name for name in SERIES if name == "loss" or name.startswith("loss_")]
    assert len(parts) > 3
    assert [line["key"] for line in spec["lines"]] == parts
    # One that there is none of yet.
    new = page.evaluate(
        """() => import("/static/specs.js").then(({ CHARTS, withParts }) => withParts(
            CHARTS.learning.find(({ id }) => id === "loss"), ["loss", "lossy", "loss_new_part"]))"""
    )
    assert [(line["key"], line["name"]) for line in new["lines"]] == [
        ("loss", "total"),
        ("loss_new_part", "new part"),
    ]
    assert len({line["dash"] for line in new["lines"]}) == 2


def test_errors_tile_leads_to_which_whose_and_when(
    playing: Life, visit: Callable[..., Visit]
) -> None:
    """Names and messages of strangers are texts, whatever is in them."""
    there = visit()
    page = there.open()
    port = int(playing.serve.find(r"listens on 127\.0\.0\.1:(\d+)"))
    evil = "<img src=x onerror='document.title=`owned`'>"
    for _ in range(2):
        with RawClient(port) as rude:
            rude.send([1, hello_fields(client=evil, game=evil)])
            rude.refusal()
    there.wait_text("#tiles [data-fact=Errors] dd", r"^\d+$")
    page.click("#tiles [data-fact=Errors] a")
    there.wait_text("#errors tbody", r"127\.0\.0\.1:\d+")
    failure = playing.ask("api/errors")[0]
    assert (failure["code"], failure["times"]) == ("spec_mismatch", 2)
    assert failure["client"] == evil
    row = there.text("#errors tbody tr")
    for part in (evil, "spec_mismatch", failure["message"][:40]):
        assert part in row
    assert page.locator("#errors img").count() == 0
    assert "owned" not in page.title()
    wait_true(  # it scrolls there
        page,
        "document.querySelector('#errors').getBoundingClientRect().top < innerHeight",
    )


def test_warning_stands_on_the_dashboard_with_its_cure_until_it_has_ended(
    playing: Life, visit: Callable[..., Visit]
) -> None:
    there = visit()
    page = there.open()
    gone = "!/known to stop learning/.test(document.querySelector('#warnings').innerText)"
    wait_true(page, gone)
    playing.control({"set": {"advantage.applies_to": ["td"], "advantage.signal": "reward"}})
    try:
        there.wait_text("#warnings", "known to stop learning")
        (shown,) = page.locator("#warnings li", has_text="known to stop learning").all_inner_texts()
        assert "Remove td from advantage.applies_to" in shown
        assert "since" in shown

        def counted() -> bool:
            state = playing.ask("api/state")
            others = [one["id"] for one in state["warnings"] if one["id"] != "weights_on_td"]
            # A machine with much to do may bring about some, and so may this setting after a
            # thousand updates of a tiny network, whose values go astray and which then always
            # chooses the same: they are shown beside it.
            may_be = ("no_report_", "training_behind", "head_dead_", "values_")
            assert [id_ for id_ in others if not id_.startswith(may_be)] == []
            return bool(state["row"]["warnings"] == 1 + len(others))

        until(counted, "the row counts what holds")
    finally:  # it does not hold for tests after this one
        playing.control({"set": {"advantage.signal": "critic"}})
    wait_true(page, gone, patience_s=2 * PATIENCE_S)
    until(
        lambda: page.is_hidden("#warnings") == (not playing.ask("api/state")["warnings"]),
        "it is hidden where nothing holds",
    )


def test_help_for_a_bad_student_is_on_the_dashboard(visit: Callable[..., Visit]) -> None:
    there = visit(size=PHONE, scheme="dark")
    page = there.open()
    page.click("#learning a")
    page.wait_for_selector("text=It learns nothing")
    assert page.evaluate(NO_OVERFLOW) == [True, []]
    seen, low = page.evaluate(LOW_CONTRAST)
    assert seen > 50
    assert low == []


def test_score_and_level_of_older_clients_have_charts(browser: Any, tmp_path: Path) -> None:
    """And only of them: without such a game there is no chart."""
    # In this process: the test is about the page, and a command would import torch once more.
    with Running(tmp_path / "run", tempest__port=0) as server:
        supervisor = server.supervisor
        mailbox = supervisor.mailbox
        with HttpServer("127.0.0.1", 0, lambda: supervisor.status, mailbox) as http:
            there = Visit(browser, http)
            page = there.open()
            page.wait_for_selector("#chart-latency")
            assert page.query_selector("#chart-game_score") is None
            with TempestClient(server.supervisor.tempest_port) as client:
                for k in range(40):
                    client.frame([0.5] * 3, score=100 * k, level=3, done=int(k % 20 == 19))
            page.wait_for_selector("#chart-game_score")
            there.wait_text("#chart-game_score", "2,900")
            there.wait_text("#chart-game_score", "3,900")
            there.wait_text("#chart-game_level", "3")
            there.close()


def test_interventions_have_charts_of_their_share_and_length(browser: Any, tmp_path: Path) -> None:
    """Once there was one."""
    with Running(tmp_path / "run") as server:
        supervisor = server.supervisor
        with HttpServer("127.0.0.1", 0, lambda: supervisor.status, supervisor.mailbox) as http:
            there = Visit(browser, http)
            page = there.open()
            page.wait_for_selector("#chart-latency")
            assert page.query_selector("#chart-takeovers") is None
            assert page.query_selector("#chart-takeover_lengths") is None
            action = [1, [0.5, 0.5]]
            with client_for(server.port) as client:
                for i in range(41):
                    took = (action, Actor.EXPERT) if 5 < i <= 15 else None
                    client.act([0, 1, i / 100], 0.0, int(i == 40), None, took)
            there.wait_text("#chart-takeovers", r"taken over\s+0\.2")
            there.wait_text("#chart-takeover_lengths", r"length\s+10")
            there.close()


def test_cluster_shows_nodes_learners_and_what_waits(browser: Any, tmp_path: Path) -> None:
    node = {"name": "gateway node 0", "host": "10.0.0.1", "answers": True, "port": 7777}
    learner = {"name": "learner 0", "host": "10.0.0.2", "answers": True}
    seen = Status(
        config=Config(), folder=tmp_path, launch=1, started=5.0, looped_at=float("inf"), port=7777,
    )  # fmt: skip
    mailbox = Mailbox(lambda _request, _who: {"ok": True, "text": "done"})
    with HttpServer("127.0.0.1", 0, lambda: seen, mailbox) as http:
        there = Visit(browser, http)
        page = there.open()
        there.wait_text("#status", "live, no games")
        assert not page.is_visible("#cluster")
        assert not page.is_visible("#cluster-link")
        told = node | {"unacknowledged": 4096, "weights_age_s": 65.0}
        seen = replace(seen, nodes=(told, learner))
        there.wait_text("#cluster tbody tr:nth-child(1)", "gateway node 0")
        assert page.locator("#cluster tbody td").all_text_contents() == [
            "answers", "10.0.0.1:7777", "4,096", "1:05", "answers", "10.0.0.2", "–", "–",
        ]  # fmt: skip
        check_readable(page, 30)
        seen = replace(seen, nodes=(told | {"answers": False},))
        there.wait_text("#cluster tbody tr:nth-child(1)", "away")
        assert page.locator("#cluster tbody tr").count() == 1
        there.close()


@pytest.mark.usefixtures("playing")
def test_chart_line_is_drawn_at_its_values(visit: Callable[..., Visit]) -> None:
    """The pixels on the canvas: at points of a line there is ink of its color."""
    page = visit().open()
    wait_true(page, "document.querySelector('#chart-q_mean').chart.data[0].length > 10")
    found = page.evaluate(INK)
    assert len(found) == 15
    for name, hits, points in found:
        assert points > 3, name
        assert hits > 0.9 * points, (name, hits, points)


@pytest.mark.usefixtures("playing")
def test_chart_lines_differ_by_more_than_color(visit: Callable[..., Visit]) -> None:
    page = visit().open()
    wait_true(page, "document.querySelector('#chart-latency').chart.plots.length > 0")
    looks = page.evaluate(
        """() => [...document.querySelectorAll("figure")].map(({ chart }) => chart.plots.map(
            (plot) => plot.series.slice(1).map((s) => JSON.stringify(s.dash)))).flat()"""
    )
    assert len(looks) > 15
    for dashes in looks:
        assert len(set(dashes)) == len(dashes), looks
    # Two panels share the scale, so that what is higher is more.
    scales = page.evaluate(
        """() => [...document.querySelectorAll("figure.pair")].map(({ chart }) =>
            chart.plots.map((plot) => [plot.scales.y.min, plot.scales.y.max]))"""
    )
    assert len(scales) == 7
    for dqn, expert in scales:
        assert dqn == expert
        assert dqn[0] < dqn[1]


def test_chart_values_are_available_as_a_table(playing: Life, visit: Callable[..., Visit]) -> None:
    seen = visit()
    page = seen.open()
    toggle = page.locator("#chart-latency .caption button")
    assert toggle.get_attribute("aria-expanded") == "false"
    wait_true(page, "document.querySelector('#chart-latency').chart.data[0].length > 10")
    toggle.click()
    assert toggle.get_attribute("aria-expanded") == "true"
    assert page.locator("#latency-numbers thead th").all_inner_texts() == [
        "Time", "Frame", "p50", "p99",
    ]  # fmt: skip
    values = page.eval_on_selector_all(
        "#latency-numbers tbody tr",
        "rows => rows.map(row => [...row.cells].slice(2).map(cell => cell.dataset.value))",
    )
    answer = playing.ask("api/history?points=4096")
    at = [answer["columns"].index(name) for name in ("turn_p50_ms", "turn_p99_ms")]
    known = [[row[i] for i in at] for row in answer["rows"]]
    shown = [[None if cell is None else float(cell) for cell in row] for row in values]
    assert len(shown) > 10
    assert [row for row in shown if row not in known] == []
    toggle.click()
    assert page.is_hidden("#latency-numbers")


@pytest.mark.usefixtures("playing")
def test_chart_range_shows_the_last_minutes(visit: Callable[..., Visit]) -> None:
    page = visit().open()
    times = """(() => { const { rows, history } = document.querySelector("#chart-latency").chart;
        return rows.filter((row) => row !== null).map((row) => history.times[row]); })()"""
    wait_true(page, f"(() => {{ const t = {times}; return t.at(-1) - t[0] > 3; }})()")
    # A shorter span than there is to choose: the run is a few seconds old.
    page.evaluate("document.querySelector('#span').options[2].value = '2'")
    page.select_option("#span", "2")
    # Where the machine has much to do, rows may be more than a second apart for a while.
    within = f"(() => {{ const t = {times}; return t.length > 2 && t.at(-1) - t[0] <= 2; }})()"
    wait_true(page, within)
    page.select_option("#span", "")
    shown = page.evaluate(times)
    assert shown[-1] - shown[0] > 3


def test_dashboard_shows_student_and_expert_side_by_side(
    playing: Life, visit: Callable[..., Visit]
) -> None:
    seen = visit()
    page = seen.open()
    (found,) = playing.ask("api/state")["evaluations"]
    wait_true(page, "document.querySelector('#chart-evaluation').chart.data[0].length > 1")
    x, student, expert = page.evaluate("document.querySelector('#chart-evaluation').chart.data")
    assert x[0] == found["frames"] < x[-1]
    assert student == [found["mean"], None]
    assert expert == [found["expert_mean"]] * 2
    assert page.is_hidden("#chart-evaluation .frame .none")


@pytest.mark.usefixtures("playing")
def test_evaluation_that_waits_or_lacks_something_says_so(visit: Callable[..., Visit]) -> None:
    page = visit().open()
    page.wait_for_selector("#games-table tbody tr")
    assert page.is_hidden("#evaluation-note"), "the evaluation was complete"
    told = """(state) => import("/static/series.js").then((m) => m.evaluationNote(state))"""
    lacks = {"partial": True, "expert_partial": False, "text": "evaluation at frame 3: network 1.0"}
    complete = {**lacks, "partial": False}
    for note, evaluations, text in (
        ("", [], ""),
        ("", [lacks, complete], ""),
        ("", [complete, lacks], "Newest evaluation at frame 3: network 1.0."),
        ("evaluation: 1 of 2", [complete], "Evaluation: 1 of 2."),
        ("x", [lacks], "X. Newest evaluation at frame 3: network 1.0."),
    ):
        state = {"evaluation_note": note, "evaluations": evaluations}
        assert page.evaluate(told, state) == text


def test_games_are_listed_with_a_page_each(playing: Life, visit: Callable[..., Visit]) -> None:
    seen = visit()
    page = seen.open()
    page.wait_for_selector("#games-table tbody tr >> nth=1")
    games = [game for game in playing.ask("api/games") if game["role"] == "train"]
    assert len(games) == 2
    rows = page.locator("#games-table tbody tr").all_inner_texts()
    for game in games:
        (row,) = [row for row in rows if str(game["session"]) in row.split()]
        assert game["client"] in row
        assert "train" in row
    rates = page.locator("#games-table [data-cell=rate]")
    wait_true(
        page,
        "[...document.querySelectorAll('[data-cell=rate]')].some((cell) => +cell.innerText > 0)",
    )
    assert rates.count() == len(rows)
    session = games[0]["session"]
    page.click(f"#games-table tr[data-session='{session}'] a")
    page.wait_for_url(f"**/game/{session}")
    assert seen.text("h1:visible") == games[0]["client"]
    assert page.evaluate("document.activeElement.tagName") == "H1"
    assert "CartPole-v1" in seen.text("#game-page .facts")
    seen.wait_text("#game-page .legend", r"dqn .*frames.*\n?expert .*frames")
    assert page.is_hidden("#run-page")
    page.reload()  # it is a page of its own
    seen.wait_text("#game-page h1", re.escape(games[0]["client"]))
    page.click("#game-page a")
    page.wait_for_selector("#games-table tbody tr", state="visible")
    page.go_back()
    page.wait_for_selector("#game-page", state="visible")
    seen.open("game/12345678")
    seen.wait_text("#game-page", "No connected game has this session number")


def test_dashboard_shows_the_replay_contents(playing: Life, visit: Callable[..., Visit]) -> None:
    seen = visit()
    page = seen.open()
    seen.wait_text("#replay .legend", r"dqn [\d.]+ % \([\d,]+ steps\)\s+expert [\d.]+ %")
    shares = page.eval_on_selector_all("#replay .share span", "s => s.map(e => e.offsetWidth)")
    row = playing.ask("api/state")["row"]
    assert shares[0] / sum(shares) == pytest.approx(row["buffer_frac_dqn"], abs=0.1)
    looks = page.eval_on_selector_all(
        "#replay .share span", "s => s.map(e => getComputedStyle(e).backgroundImage)"
    )
    assert looks[0] == "none"
    assert "repeating-linear-gradient" in looks[1]


def test_dashboard_is_readable_on_every_screen_size(
    playing: Life, visit: Callable[..., Visit]
) -> None:
    seen = visit()
    page = seen.open()
    page.wait_for_selector("#games-table tbody tr")
    check_readable(page, 101)
    session = playing.ask("api/games")[0]["session"]
    seen.open(f"game/{session}")
    page.wait_for_selector("#game-page figure canvas")
    check_readable(page, 1)


def test_restarted_process_is_shown_on_every_screen_size(
    playing: Life, visit: Callable[..., Visit]
) -> None:
    """How often, when and why, on every screen."""
    seen = visit()
    page = seen.open()
    page.wait_for_selector("#games-table tbody tr")
    assert page.is_hidden("#restarts")
    os.kill(process_ids(read_events(playing.run))["trainer"], signal.SIGKILL)
    page.wait_for_selector("#restarts", state="visible")
    seen.wait_text(
        "#restarts", r"Restarts: trainer 1×\. Last restart at .*: trainer died \(killed by"
    )
    assert seen.text("#restarts").endswith("(see the log).")
    for size in (PHONE, DESK):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        # Charts follow when the page was laid out anew.
        until(lambda: page.evaluate(NO_OVERFLOW) == [True, []], f"it fits into {size}")
    assert page.evaluate(LOW_CONTRAST)[1] == []
    (found,) = playing.ask("api/state")["restarts"]
    assert found["name"] == "trainer"
    until(lambda: playing.ask("api/state")["row"]["updates_per_s"], "it learns again")


# Controls.


def test_control_asks_for_confirmation_and_token_then_acts(
    playing: Life, visit: Callable[..., Visit]
) -> None:
    seen = visit()
    page = seen.open()
    before = playing.changes()
    page.fill("#set-epsilon", "0.125")
    page.click("[data-key='exploration.epsilon'] button")
    assert page.locator("#ask").evaluate("dialog => dialog.matches(':modal')")
    asked = seen.text("#ask-text")
    assert "exploration.epsilon" in asked
    assert re.search(r"From\s+0\.\d+, schedule 0\.2 to 0\.02", asked)
    assert re.search(r"To\s+0\.125", asked)
    assert playing.changes() == before  # nothing happens until it is confirmed

    seen.refusals_meant = 1
    page.fill("#token", "another token")
    page.click("#ask-yes")
    seen.wait_text("#ask-wrong", "token")
    assert page.is_visible("#token")
    assert playing.changes() == before

    page.fill("#token", TOKEN)
    page.click("#ask-yes")
    seen.wait_text("#outcome", r"exploration\.epsilon\.start.* 0\.125")
    assert page.is_hidden("#ask")
    new = playing.changes()[len(before) :]
    assert {(change["key"], change["to"]) for change in new} == {
        ("exploration.epsilon.start", 0.125),
        ("exploration.epsilon.end", 0.125),
    }
    until(lambda: playing.ask("api/state")["row"]["epsilon"] == 0.125, "the gateways have it")
    seen.wait_text("#events", r"exploration\.epsilon\.start 0\.2 → 0\.125; .*end 0\.02 → 0\.125")

    # The token is not asked again in this tab, and is kept nowhere else.
    page.reload()
    page.wait_for_selector("#status:not([data-is=waiting])")
    page.fill("#set-rate", "5")
    page.click("[data-key='learner.learning_rate'] button")
    assert page.is_hidden("#token")
    page.click("#ask-no")
    assert page.is_hidden("#ask")
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"
    assert seen.context.cookies() == []
    assert TOKEN not in "".join(seen.asked)


def test_refused_control_shows_the_servers_error(
    playing: Life, visit: Callable[..., Visit]
) -> None:
    seen = visit()
    page = seen.open()
    before = playing.changes()
    page.evaluate("document.querySelector('#set-ratio').max = 9")
    page.fill("#set-ratio", "3")
    page.press("#set-ratio", "Enter")
    page.fill("#token", TOKEN)
    seen.refusals_meant = 1
    page.click("#ask-yes")
    seen.wait_text("#ask-wrong", r"expert\.ratio")
    assert playing.changes() == before
    page.keyboard.press("Escape")
    assert page.is_hidden("#ask")


def test_controls_pause_checkpoint_evaluate_and_set_game_settings(
    playing: Life, visit: Callable[..., Visit]
) -> None:
    seen = visit()
    page = seen.open()

    def confirm(button: str, *, first: bool = False) -> None:
        page.click(button)
        page.wait_for_selector("#ask[open]")
        if first:
            page.fill("#token", TOKEN)
        page.click("#ask-yes")
        page.wait_for_selector("#ask:not([open])", state="attached")

    confirm("#pause", first=True)
    seen.wait_text("#pause-state", "paused")
    assert playing.ask("api/state")["paused"] is True
    seen.wait_text("#status", "paused")
    confirm("#pause")
    seen.wait_text("#pause-state", "is running")
    assert playing.ask("api/state")["paused"] is False

    written = set((playing.run / "checkpoints").iterdir())
    confirm("#checkpoint")
    until(lambda: set((playing.run / "checkpoints").iterdir()) - written, "a checkpoint")

    page.fill("#games-json", "level 3")
    page.click("#games-settings button")
    assert "JSON" in seen.text("#games-json-wrong")
    page.fill("#games-json", '{"level": 3}')
    confirm("#games-settings button")
    seen.wait_text("#games-json-now", '"level":3')
    assert playing.ask("api/state")["game_settings"]["level"] == 3

    confirm("#evaluate")
    seen.wait_text("#outcome", "Asked to evaluate: understudy-play/")
    until(lambda: len(playing.ask("api/state")["evaluations"]) == 2, "another evaluation")
    kinds = json.dumps(playing.changes())
    for word in ("pause", "checkpoint", "evaluate", "level"):
        assert word in kinds


def test_expert_ratio_can_be_set_by_keyboard(playing: Life, visit: Callable[..., Visit]) -> None:
    page = visit().open()
    press = page.keyboard.press
    focused = "document.activeElement.id"

    press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
    press("Enter")
    for _ in range(80):
        press("Tab")
        looks = page.evaluate(
            """() => {
                const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
                return [outlineStyle, parseFloat(outlineWidth), document.activeElement.outerHTML];
            }"""
        )
        assert looks[0] == "solid", looks
        assert looks[1] >= 2, looks
        if page.evaluate(focused) == "set-ratio":
            break
    assert page.evaluate(focused) == "set-ratio"

    page.keyboard.type("0.375")
    press("Enter")
    page.wait_for_selector("#ask[open]")
    assert page.evaluate(focused) == "token"
    press("Escape")
    page.wait_for_selector("#ask:not([open])", state="attached")
    assert page.evaluate(focused) == "set-ratio"  # where one was
    press("Enter")
    page.wait_for_selector("#ask[open]")
    page.keyboard.type(TOKEN)
    press("Tab")
    assert page.evaluate(focused) == "ask-no"
    press("Tab")
    assert page.evaluate(focused) == "ask-yes"
    press("Enter")
    page.wait_for_selector("#ask:not([open])", state="attached")
    until(
        lambda: playing.ask("api/state")["row"]["expert_ratio"] == 0.375,
        "the ratio that was typed",
    )
    assert playing.changes()[-1]["key"].startswith("expert.ratio.")
    assert playing.changes()[-1]["to"] == 0.375


# The server goes, and comes back.


def test_lost_server_is_shown_and_found_again(playing: Life, visit: Callable[..., Visit]) -> None:
    seen = visit()
    page = seen.open()
    wait_true(page, "document.querySelector('#chart-latency').chart.data[0].length > 10")
    playing.close()
    page.wait_for_selector("#lost", state="visible")
    said = seen.text("#lost")
    assert "No connection" in said or "error" in said
    assert re.search(r"The numbers below are from \d\d:\d\d:\d\d", said)
    assert re.search(r"no connection since \d\d:\d\d:\d\d", seen.text("#status"))
    assert page.evaluate("document.querySelector('#lost').getAttribute('role')") == "alert"
    points = page.evaluate("document.querySelector('#chart-latency').chart.data[0].length")
    assert points > 10  # what was known stays

    playing.again()
    page.wait_for_selector("#lost", state="hidden")
    seen.wait_text("#events", "Restarted")
    wait_true(
        page,
        "document.querySelector('#chart-latency').chart.marks.some(mark => mark.letter === 'R')",
    )
    # Nothing can be done without a control token, and the page says how to get one.
    seen.wait_text("#controls-note", r"server\.control_token")
    assert page.locator("#controls button:not([disabled])").count() == 0
    # The line is broken where the server was away.
    rows = page.evaluate("document.querySelector('#chart-latency').chart.rows")
    assert None in rows
    seen.complaints = [text for text in seen.complaints if "Failed to load resource" not in text]
