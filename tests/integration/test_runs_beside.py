"""/api/runs and /api/compare: the runs beside the one that is served, and no others."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.models import Config
from server.control.mailbox import Mailbox
from server.monitor import comparison
from server.monitor.status import Status
from server.run.overview import overview
from server.web import runs_beside
from server.web.server import HttpServer
from tests.support.run_folders import evaluation, make_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs in a folder, the first of which is served, and one that is elsewhere."""
    folder = tmp_path / "runs"
    for at, name in enumerate(("first", "second", "[red]")):
        points = [evaluation(0, 0.0), evaluation(1000, 10.0 * at)]
        make_run(folder / name, points, learner__gamma=0.9 + at / 100)
    make_run(tmp_path / "elsewhere", [evaluation(100, 5.0)])
    return folder


@pytest.fixture
def web(runs: Path) -> Iterator[HttpServer]:
    status = Status(
        config=Config(), folder=runs / "first", launch=1, started=0.0, looped_at=0.0, port=1
    )
    with HttpServer("127.0.0.1", 0, lambda: status, Mailbox(lambda *_: {})) as server:
        yield server


def ask(web: HttpServer, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=30.0)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_api_runs_lists_the_runs_beside_the_served_one(runs: Path, web: HttpServer) -> None:
    status, found = ask(web, "/api/runs")
    assert status == 200
    assert found["folder"] == str(runs)
    assert sorted(run["name"] for run in found["runs"]) == ["[red]", "first", "second"]
    assert [run["name"] for run in found["runs"] if run["served"]] == ["first"]
    (second,) = (run for run in found["runs"] if run["name"] == "second")
    assert (second["best"], second["game"], second["state"]) == (10.0, "test", "stopped")


def test_api_runs_leaves_out_a_run_that_cannot_be_read(
    web: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> Any:
        if path.name == "second":
            raise PermissionError(13, "Permission denied")
        return overview(path)

    monkeypatch.setattr(runs_beside, "overview", refused)
    status, found = ask(web, "/api/runs")
    assert status == 200
    assert sorted(run["name"] for run in found["runs"]) == ["[red]", "first"]


def test_api_compare_has_curves_and_settings_of_the_named_runs(web: HttpServer) -> None:
    status, found = ask(web, "/api/compare?run=second&run=first")
    assert status == 200
    assert [run["label"] for run in found["runs"]] == ["second", "first"]
    assert found["curves"]["evaluation"] == [[[0, 0.0], [1000, 10.0]], [[0, 0.0], [1000, 0.0]]]
    assert found["settings"] == {"learner.gamma": ["0.91", "0.9"]}
    status, found = ask(web, "/api/compare?run=first&curve=updates")
    assert list(found["curves"]) == ["updates"]


@pytest.mark.parametrize(("query", "status", "text"), [
    ("", 400, "1 to 8 names"),
    ("&".join(f"run=r{n}" for n in range(9)), 400, "1 to 8 names"),
    ("run=first&curve=nothing", 400, "the name of a metric"),
    ("run=first&" + "&".join(f"curve=c{n}" for n in range(5)), 400, "at most 4"),
    ("run=nobody", 404, "no run 'nobody' here"),
    ("run=../elsewhere", 404, "no run '../elsewhere' here"),
    ("run=..", 404, "no run '..' here"),
    ("run=.", 404, "no run '.' here"),
    ("run=%2Fetc", 404, "no run '/etc' here"),
    ("run=elsewhere", 404, "no run 'elsewhere' here"),
])  # fmt: skip
def test_api_compare_refuses_what_is_no_run_here(
    web: HttpServer, query: str, status: int, text: str
) -> None:
    answered, found = ask(web, f"/api/compare?{query}")
    assert answered == status
    assert text in found["error"]


def test_folders_are_read_for_one_request_at_a_time(
    web: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, go_on = threading.Event(), threading.Event()

    def slow(*args: Any) -> Any:
        reads.set()
        assert go_on.wait(30.0)
        return comparison.compare(*args)

    monkeypatch.setattr(runs_beside, "compare", slow)
    answers: list[int] = []
    first = threading.Thread(
        target=lambda: answers.append(ask(web, "/api/compare?run=first&run=second")[0])
    )
    first.start()
    try:
        assert reads.wait(30.0)
        status, found = ask(web, "/api/runs")
        assert status == 503
        assert "ask again" in found["error"]
        assert ask(web, "/api/games")[0] == 200, "others do not wait"
    finally:
        go_on.set()
        first.join(30.0)
    assert answers == [200]
    assert ask(web, "/api/runs")[0] == 200
