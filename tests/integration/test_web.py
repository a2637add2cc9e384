"""HTTP against a live server: real processes, real sockets, games that play meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from config.load import ConfigError
from server.monitor.metric import COUNTER
from server.monitor.metrics import SERIES
from server.monitor.prometheus import NAMES
from server.web import app as http_app
from server.web import auth as http_auth
from server.web import connections as http_connections
from server.web.server import HttpServer
from tests.support.running import Bystander, RawClient, Running

TOKEN = "a control token"
GAME_TOKEN = "a token for games"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("http") / "run"
    with Running(
        folder,
        server__token=GAME_TOKEN,
        server__control_token=TOKEN,
        server__settings={"level": 1},
        learner__normalize_observations=True,
        replay__prioritized=True,
        trainer__replay_ratio=0.25,  # training keeps up with the game, and can be seen to
    ) as running:
        running.until(lambda: running.supervisor.status.ready, "the gateways run", 60.0)
        with RawClient(running.port, timeout_s=60.0) as first:
            first.welcome(token=GAME_TOKEN)
        yield running


@pytest.fixture(scope="module")
def game(server: Running) -> Iterator[Bystander]:
    """A game that plays all the while and must not notice anything."""
    one = Bystander(server.port, token=GAME_TOKEN)
    server.until(lambda: server.row.get("updates", 0) > 20, "it learns")
    yield one
    one.stop()


@pytest.fixture
def web(server: Running, game: Bystander) -> Iterator[HttpServer]:
    """A new one for each test: none counts the failures of another."""
    with serve(server) as one, game.undisturbed():
        yield one


def serve(
    server: Running,
    token: str | None = TOKEN,
    host: str = "127.0.0.1",
    names: tuple[str, ...] = (),
) -> HttpServer:
    supervisor = server.supervisor
    return HttpServer(
        host, 0, lambda: supervisor.status, supervisor.mailbox, names=names, control_token=token
    )


class Reply:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is no JSON")

        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body, parse_constant=refuse)


def ask(web: HttpServer, path: str, method: str = "GET", body: Any = None, **headers: str) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20.0)
    try:
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        return Reply(connection.getresponse())
    finally:
        connection.close()


def control(web: HttpServer, request: Any, token: str | None = TOKEN, **headers: str) -> Reply:
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return ask(web, "/api/control", "POST", body, **headers)


def changes(server: Running) -> list[dict[str, Any]]:
    path = server.folder.path / "changes.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# What everybody may read.


def test_state_has_the_run_and_every_metric(server: Running, web: HttpServer) -> None:
    state = ask(web, "/api/state").json
    run = state["run"]
    assert (run["name"], run["folder"]) == ("run", str(server.folder.path))
    assert (run["game"], run["launch"], run["device"]) == ("test", 1, "cpu")
    assert run["start_hint"] == {
        "text": f"start your game 'test'; it connects to 127.0.0.1:{server.port}",
        "command": "",
    }
    assert run["spec"]["actions"] == [["discrete", "fire", 4], ["continuous", "aim", -1.0, 1.0, 2]]
    assert set(state["row"]) == set(state["last"]) == set(SERIES)
    assert state["row"]["frames"] > 20
    assert state["row"]["eval_return_mean"] is None, "NaN is null"
    assert abs(state["time"] - time.time()) < 60
    assert state["paused"] is False
    assert state["controls"] is True
    assert state["settings"]["expert.ratio.start"] == 0.5
    assert state["settings"]["learner.learning_rate"] == 5e-4
    assert "server.port" not in state["settings"]
    assert state["game_settings"]["level"] == 1


def test_state_lists_the_connected_games(server: Running, game: Bystander, web: HttpServer) -> None:
    with RawClient(server.port) as other:
        other.welcome(token=GAME_TOKEN, client="other/2", slots=2, role="eval")
        for seq in range(3):
            for slot in range(2):
                other.frame(seq, slot=slot, reward=2.0, status=int(seq == 2))
        session = other.fields["session"]
        one = server.until(
            lambda: next(
                (g for g in games_of(web) if g["session"] == session and g["frames"]), None
            ),
            "the new game is shown",
        )
        assert (one["client"], one["game"], one["role"]) == ("other/2", "test", "eval")
        assert (one["slots"], one["gateway"], one["peer"][:10]) == (2, 0, "127.0.0.1:")
        # The last frames have no action, the first ones none before them.
        server.until(lambda: of(web, session)["frames"] == 6, "all of its frames are counted")
        one = of(web, session)
        assert (one["frames_dqn"], one["frames_expert"]) == (4, 0)
        assert (one["episodes"], one["last_return"], one["recent_returns"]) == (2, 4.0, [4.0, 4.0])
        assert 0 <= one["connected_s"] < 60
    server.until(lambda: ask(web, f"/api/games/{session}").status == 404, "it is gone")
    mine = of(web, game.session)
    server.until(lambda: of(web, game.session)["frames"] > mine["frames"], "the count goes on")
    mine = of(web, game.session)
    assert mine["frames_per_s"] > 0
    assert mine["frames_dqn"] > 0
    assert mine["frames_expert"] > 0
    first_ones = mine["frames"] - mine["frames_dqn"] - mine["frames_expert"]
    assert mine["episodes"] <= first_ones <= mine["episodes"] + 1


def games_of(web: HttpServer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(web, "/api/games").json
    return found


def of(web: HttpServer, session: int) -> dict[str, Any]:
    reply = ask(web, f"/api/games/{session}")
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json
    return found


def test_frame_counts_for_the_actor_that_acted(server: Running, web: HttpServer) -> None:
    for _ in range(2):  # the second one has the place that the first one left in an episode
        with RawClient(server.port) as person:
            person.welcome(token=GAME_TOKEN, role="eval")
            person.frame(0)
            for seq in range(1, 6):
                person.frame(seq, took=[[1, [0.0, 0.0]], 2])
            session = person.fields["session"]
            server.until(
                lambda s=session: any(
                    g["session"] == s and g["frames"] == 6 for g in games_of(web)
                ),
                "they are counted",
            )
            one = of(web, session)
            assert (one["frames_dqn"], one["frames_expert"]) == (0, 5)
        server.until(lambda s=session: ask(web, f"/api/games/{s}").status == 404, "it is gone")


def test_history_equals_the_written_rows(server: Running, web: HttpServer) -> None:
    server.wait_rows(8)
    past = ask(web, "/api/history?points=5").json
    assert past["columns"][0] == "time"
    assert set(past["columns"]) == set(SERIES)
    assert len(past["rows"]) == 5
    times = [row[0] for row in past["rows"]]
    assert times == sorted(set(times))
    written = [json.loads(line) for line in server.folder.metrics.read_text().splitlines()]
    assert times[0] == written[0]["time"]
    at = {row["time"]: row for row in written}
    frames = past["columns"].index("frames")
    assert [row[frames] for row in past["rows"]] == [at[t].get("frames") for t in times]
    assert [start["launch"] for start in past["starts"]] == [1]
    assert past["starts"][0]["frames"] == 0
    assert len(ask(web, "/api/history").json["rows"]) > 5


@pytest.mark.parametrize("points", ["0", "-1", "x", "1e3", "5000", "9" * 5000, ""])
def test_history_points_parameter_is_validated(web: HttpServer, points: str) -> None:
    reply = ask(web, f"/api/history?points={points}")
    assert (reply.status, "from 1 to 4096" in reply.json["error"]) == (400, True)


def test_pages_and_assets_are_served(web: HttpServer) -> None:
    for path in ("/", "/game/17", "/game/"):
        reply = ask(web, path)
        assert (reply.status, reply.headers["content-type"][:9]) == (200, "text/html")
        assert b"understudy" in reply.body
    assert ask(web, "/static/index.html").status == 200
    for path in ("/static/../http_app.py", "/static/%2e%2e/http_app.py", "/static/", "/nothing"):
        assert ask(web, path).status in (403, 404), path


@pytest.mark.parametrize("path", ["/", "/static/index.html", "/api/state", "/metrics", "/nothing"])
def test_every_response_has_security_headers(web: HttpServer, path: str) -> None:
    headers = ask(web, path, origin="http://elsewhere.example").headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert not [name for name in headers if name.startswith("access-control-")]
    assert "server" not in headers


def test_missing_path_is_a_json_error(web: HttpServer) -> None:
    for method, path, status in (
        ("GET", "/api/nothing", 404),
        ("GET", "/api/games/99", 404),
        ("GET", "/api/games/x", 404),
        ("POST", "/api/state", 405),
        ("GET", "/api/control", 405),
    ):
        reply = ask(web, path, method)
        assert (reply.status, bool(reply.json["error"])) == (status, True), path


def test_healthz_is_ok_while_the_server_runs(server: Running, web: HttpServer) -> None:
    for path in ("/healthz", "/readyz"):
        reply = ask(web, path)
        assert (reply.status, reply.json) == (200, {"ok": True, "problem": None})
    status = server.supervisor.status
    mailbox = server.supervisor.mailbox
    shown = replace(status, ready=False)
    with HttpServer("127.0.0.1", 0, lambda: shown, mailbox) as other:
        assert ask(other, "/healthz").status == 200
        assert ask(other, "/readyz").json["problem"] == "the gateways are starting"
        shown = replace(status, ended="trainer ended by itself")
        for path in ("/healthz", "/readyz"):
            reply = ask(other, path)
            assert (reply.status, reply.json["problem"]) == (503, "trainer ended by itself")


def test_healthz_fails_while_the_supervisor_loop_stands_still(
    server: Running, web: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP answers meanwhile: it has a thread of its own."""
    monkeypatch.setattr("server.monitor.status.ALIVE_S", 0.3)
    go_on = threading.Event()
    thread = threading.Thread(target=lambda: server.do(lambda: go_on.wait(10.0)))
    thread.start()
    try:
        reply = until(lambda: ask(web, "/healthz"), lambda reply: reply.status == 503)
        assert "the supervisor's loop has not run for" in reply.json["problem"]
        assert ask(web, "/api/state").status == 200
    finally:
        go_on.set()
        thread.join()
    monkeypatch.setattr("server.monitor.status.ALIVE_S", 10.0)
    until(lambda: ask(web, "/healthz"), lambda reply: reply.status == 200)


def until(get: Callable[[], Any], good: Callable[[Any], bool], timeout_s: float = 10.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not good(found := get()):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


# Prometheus.


def test_prometheus_endpoint_has_every_metric(server: Running, web: HttpServer) -> None:
    reply = ask(web, "/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    found = {f.name: f for f in text_string_to_metric_families(reply.body.decode())}
    for metric, series in SERIES.items():
        label, value = series.metric.label, series.value
        name = f"understudy_{NAMES[metric]}"
        one = found[name.removesuffix("_total")]
        assert one.documentation
        assert one.type == series.metric.kind
        assert name.endswith("_total") == (one.type == COUNTER)
        assert {sample.name for sample in one.samples} <= {name}
        if metric in server.supervisor.last and label:
            assert any(sample.labels == {label.name: value} for sample in one.samples), metric
        elif metric in server.supervisor.last:
            assert [sample.labels for sample in one.samples] == [{}], metric
    samples = {(s.name, *s.labels.values()): s.value for f in found.values() for s in f.samples}
    assert samples["understudy_frames",] > 20
    assert samples["understudy_td_err_mean_by_actor", "expert"] >= 0
    assert samples["understudy_errors_by_code_total", "bad_token"] >= 0
    assert samples["understudy_healthy",] == samples["understudy_ready",] == 1
    assert math.isclose(samples["understudy_started_time",], server.supervisor.status.started)
    info = found["understudy_run_info"].samples[0]
    assert (info.labels["name"], info.labels["game"]) == ("run", "test")
    assert ("understudy_expert_return_mean",) not in samples, "there was none: no NaN"


# Controls.


def test_setting_an_expert_plugin_over_http_is_refused(server: Running, web: HttpServer) -> None:
    reply = control(web, {"set": {"expert.ratio": 0.5, "expert.plugin": "os:abort"}})
    assert (reply.status, "server's machine" in reply.json["error"]) == (400, True)
    assert server.supervisor.config.expert.plugin is None


def test_control_changes_and_records_a_setting(server: Running, web: HttpServer) -> None:
    reply = control(web, {"set": {"expert.ratio": 0.25}})
    assert reply.status == 200
    assert {each["key"] for each in reply.json["changes"]} == {
        "expert.ratio.start", "expert.ratio.end",
    }  # fmt: skip
    assert ask(web, "/api/state").json["settings"]["expert.ratio.end"] == 0.25
    last = changes(server)[-1]
    assert (last["who"], last["to"]) == ("http", 0.25)
    assert ask(web, "/api/history").json["changes"][-1] == last
    server.until_row(expert_ratio=0.25)
    again = control(web, {"set": {"expert.ratio": 0.25}})
    assert (again.status, again.json) == (200, {"changes": []})
    wrong = control(web, {"set": {"expert.ratio": 2}})
    assert (wrong.status, "from 0 to 1" in wrong.json["error"]) == (400, True)


@pytest.mark.alone
def test_control_pauses_training_while_games_play_on(
    server: Running, game: Bystander, web: HttpServer
) -> None:
    # What is due before the pause stays due: the count at the end is of what came meanwhile.
    server.until(lambda: server.row["updates_due"] <= 1, "the trainer keeps up", 45.0)
    reply = control(web, {"pause": True})
    assert reply.json == {"ok": True, "text": "training is paused; games play on"}
    server.until_row(paused=1.0)
    updates, stored = server.row["updates"], server.row["steps_stored"]
    assert ask(web, "/api/state").json["paused"] is True
    with game.undisturbed():
        server.until(lambda: server.row["steps_stored"] > stored + 100, "games play on", 30.0)
    assert (server.row["updates"], server.row["updates_due"]) == (updates, 0)
    assert "already" in control(web, {"pause": True}).json["text"]
    assert control(web, {"pause": False}).json == {"ok": True, "text": "training resumed"}
    server.until_row(paused=0.0)
    server.until(lambda: server.row["updates"] > updates, "it learns again")
    # What was stored meanwhile is not owed: a quarter of an update for each new step.
    more = server.wait_rows()["steps_stored"] - stored
    assert server.row["updates"] + server.row["updates_due"] - updates <= (more - 100) / 4 + 2
    assert [(c["key"], c["from"], c["to"], c["who"]) for c in changes(server)[-2:]] == [
        ("paused", False, True, "http"), ("paused", True, False, "http"),
    ]  # fmt: skip


def test_control_writes_a_checkpoint_before_answering(server: Running, web: HttpServer) -> None:
    reply = control(web, {"checkpoint": True})
    assert reply.status == 200
    path = Path(reply.json["text"].removeprefix("checkpoint written: "))
    assert path.parent == server.folder.checkpoints
    assert path.exists()
    last = changes(server)[-1]
    assert (last["key"], last["to"], last["who"]) == ("checkpoint", str(path), "http")
    assert ask(web, "/api/history").json["changes"][-1] == last, "it is shown too"


def test_control_sends_settings_and_evaluation_to_games(server: Running, web: HttpServer) -> None:
    with RawClient(server.port) as client:
        client.welcome(token=GAME_TOKEN, evaluates=True)
        assert client.fields["settings"]["level"] >= 1
        reply = control(web, {"games": {"level": 7, "name": "ü"}})
        assert reply.json["changes"][0]["to"]["level"] == 7
        assert client.recv() == [16, {"level": 7, "name": "ü"}]
        assert control(web, {"games": {"level": 7}}).json == {"changes": []}
        control(web, {"games": {"level": 8}})
        assert client.recv() == [16, {"level": 8}], "what stays is not repeated"
        before = int(time.time() * 1000)
        reply = control(web, {"evaluate": True})
        assert reply.json["text"].startswith("asked to evaluate: test/1 (127.0.0.1:"), reply.json
        kind, told = client.recv()
        assert (kind, list(told)) == (16, ["understudy.evaluate"])
        assert before - 1000 < told["understudy.evaluate"] < before + 60_000
        control(web, {"evaluate": True})
        assert client.recv()[1]["understudy.evaluate"] > told["understudy.evaluate"]
    with RawClient(server.port) as late:
        told_late = late.welcome(token=GAME_TOKEN).fields["settings"]
        assert (told_late["level"], told_late["name"]) == (8, "ü")
        assert told_late["understudy.evaluate"] > told["understudy.evaluate"]
    assert [c["key"] for c in changes(server)[-2:]] == ["evaluate", "evaluate"]
    assert ask(web, "/api/state").json["game_settings"] == {"level": 8, "name": "ü"}


def nested(depth: int) -> Any:
    return [] if depth == 1 else [nested(depth - 1)]


@pytest.mark.parametrize(
    ("games", "text"),
    [
        ({"level": None}, "expected text, a number"),
        ({"understudy.evaluate": 1}, "kept for the protocol"),
        ({"level": 2**70}, "64 bits"),
        ({"level": nested(17)}, "at most 16 lists"),
        ({"level": nested(400)}, "at most 16 lists"),
    ],
)
def test_control_refuses_invalid_game_settings(web: HttpServer, games: Any, text: str) -> None:
    reply = control(web, {"games": games})
    assert (reply.status, text in reply.json["error"]) == (400, True), reply.body


def test_control_that_fails_leaves_the_server_running(
    server: Running, web: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("nobody has thought of this")

    monkeypatch.setattr("server.control.controller.changed", fail)
    reply = control(web, {"set": {"learner.gamma": 0.5}})
    assert (reply.status, "log has the reason" in reply.json["error"]) == (400, True)
    assert "nobody has thought of this" in server.log()
    monkeypatch.undo()
    assert control(web, {"set": {}}).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"set": {"learner.learning_rate": NaN}}',
        b'{"set": {"learner.learning_rate": Infinity}}',
        b'{"set": {"learner.learning_rate": 1e999}}',
        b'{"games": {"level": -Infinity}}',
        b'{"games": {"level": "\\ud800"}}',
        b'{"pause": 1}',
        b'{"pause": "true"}',
        b'{"checkpoint": false}',
        b'{"pause": true, "set": {}}',
        b"[]",
        b"null",
        b'"pause"',
        b"{}",
    ],
)
def test_invalid_control_request_changes_nothing(
    server: Running, web: HttpServer, body: bytes
) -> None:
    before = changes(server)
    reply = control(web, body)
    assert (reply.status, reply.json["error"][:8]) == (400, "expected"), reply.body
    assert changes(server) == before


def test_oversized_request_body_is_refused(server: Running, web: HttpServer) -> None:
    before = changes(server)
    reply = control(web, b'{"pause": true' + b" " * http_app.MAX_BODY_BYTES + b"}")
    assert (reply.status, "at most 65536 bytes" in reply.json["error"]) == (413, True)
    # Without a length, without an end.
    with socket.create_connection(("127.0.0.1", web.port), 20.0) as sock:
        sock.sendall(
            b"POST /api/control HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
        )
        with pytest.raises(OSError):  # noqa: PT012
            for _ in range(10_000):
                sock.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            raise AssertionError("it takes in whatever comes")
    assert changes(server) == before


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer wrong", 401),
        (f"Bearer {GAME_TOKEN}", 401),
        (f"Basic {TOKEN}", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer \u00fc", 401),
        (f"bearer {TOKEN}", 200),
    ],
)
def test_control_needs_the_control_token(
    server: Running, web: HttpServer, header: str | None, status: int
) -> None:
    headers = {} if header is None else {"authorization": header}
    before = changes(server)
    reply = control(web, {"set": {}}, None, **headers)
    assert reply.status == status
    if status == 401:
        assert reply.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in reply.body.decode()
    assert changes(server) == before


def test_wrong_control_tokens_are_delayed(
    server: Running, game: Bystander, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_auth, "WITHIN_S", 6.0)
    with serve(server) as web, game.undisturbed():
        for _ in range(http_auth.FAILURES):
            assert control(web, {"set": {}}, "wrong").status == 401
        reply = control(web, {"set": {}}, "wrong")
        assert reply.status == 429
        assert 1 <= int(reply.headers["retry-after"]) <= 6
        assert control(web, {"set": {}}).status == 200, "nobody can lock the operator out"
        assert ask(web, "/api/state").status == 200


def test_missing_control_tokens_lock_nobody_out(web: HttpServer) -> None:
    for _ in range(http_auth.FAILURES + 1):
        assert control(web, {"set": {}}, None).status == 401
    assert control(web, {"set": {}}).status == 200


def test_control_without_configured_token_is_disabled(server: Running) -> None:
    with serve(server, None) as web:
        reply = control(web, {"pause": True}, "anything")
        assert reply.status == 403
        assert "server.control_token" in reply.json["error"]
        assert ask(web, "/api/state").json["controls"] is False


def test_tokens_appear_in_no_response_or_log(server: Running, web: HttpServer) -> None:
    control(web, {"set": {"learner.gamma": 0.98}})
    control(web, {"set": {}}, "wrong and secret")
    shown = [
        ask(web, path).body.decode()
        for path in ("/api/state", "/api/history", "/api/games", "/metrics")
    ]
    written = [
        path.read_bytes().decode("latin-1")
        for path in server.folder.path.rglob("*")
        if path.is_file()
    ]
    for text in (*shown, *written):
        for token in (TOKEN, GAME_TOKEN, "wrong and secret"):
            assert token not in text
    assert any("control from 127.0.0.1 refused: 401" in text for text in written)


# Who asks in a bad way.


def test_foreign_host_names_are_refused(web: HttpServer) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:80"):
        assert ask(web, "/api/state", host=host).status == 421, host
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:5", "[::1]:8", "127.8.8.8"):
        assert ask(web, "/api/state", host=host).status == 200, host


def test_foreign_host_names_are_refused_beyond_loopback_too(server: Running) -> None:
    with serve(server, host="0.0.0.0", names=("understudy",)) as web:
        for path in ("/healthz", "/metrics", "/api/state", "/", "/static/app.js", "/none"):
            reply = ask(web, path, host="understudy.example")
            assert (reply.status, "server.http_names" in reply.json["error"]) == (421, True)
        assert ask(web, "/metrics", host="understudy:8080").status == 200
        # From there no token is even looked at.
        assert control(web, {"set": {}}, host="evil.example").status == 421
        assert control(web, {"set": {}}, origin="http://evil.example").status == 403
        assert control(web, {"set": {}}, origin=f"http://127.0.0.1:{web.port}").status == 200


def test_slow_http_clients_are_disconnected_and_delay_nobody(
    server: Running, web: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connections, "STALLED_S", 1.0)
    begin = server.rows[-1]["time"]
    address = ("127.0.0.1", web.port)
    silent, half, reader = (socket.create_connection(address, 20.0) for _ in range(3))
    with silent, half, reader:
        half.sendall(b"POST /api/control HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n"
                     b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n{")  # fmt: skip
        reader.sendall(b"GET /api/history?points=4096 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        for _ in range(20):
            assert ask(web, "/api/state").status == 200
        assert control(web, {"set": {}}).status == 200
        for sock in (silent, half):
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1000) == b""
    rows = [row["time"] for row in server.rows if row["time"] >= begin]
    assert len(rows) > 2
    assert max(b - a for a, b in pairwise(rows)) < 5.0, "the supervisor waits"


def test_http_polling_does_not_slow_games(
    server: Running, game: Bystander, web: HttpServer
) -> None:
    """Nothing that polls gets into a gateway's way: it is another process."""
    stop = threading.Event()
    statuses: list[int] = []

    def poll() -> None:
        while not stop.is_set():
            for path in ("/api/state", "/api/games", "/metrics", "/api/history"):
                statuses.append(ask(web, path).status)

    threads = [threading.Thread(target=poll) for _ in range(4)]
    stalls, answers, game.worst_s = server.row["stalls"], game.answers, 0.0
    for thread in threads:
        thread.start()
    try:
        until(lambda: min(len(statuses), game.answers - answers), lambda n: n >= 200, 60.0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}
    assert game.worst_s < 2.0, "an answer took that long"
    assert server.wait_rows()["stalls"] == stalls


def test_http_port_in_use_is_reported(server: Running, web: HttpServer) -> None:
    status, mailbox = lambda: server.supervisor.status, server.supervisor.mailbox
    with pytest.raises(ConfigError, match=r"server\.http_port: cannot listen on 127\.0\.0\.1"):
        HttpServer("127.0.0.1", web.port, status, mailbox)
    with HttpServer("127.0.0.1", web.port, status, mailbox, or_any_port=True) as other:
        assert other.port != web.port
        assert ask(other, "/healthz").status == 200
    assert f"the dashboard is on port {other.port}" in server.log()


# The end, and the time after it.


def test_resumed_run_shows_its_whole_history(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with Running(path, checkpoint__every_s=1000) as first:
        game = Bystander(first.port)
        first.until(lambda: first.row.get("frames", 0) > 100, "it has played")
        game.stop()
        with serve(first) as web:
            control(web, {"set": {"learner.gamma": 0.98}})
            control(web, {"pause": True})
        frames = first.settle()["frames"]
    assert first.supervisor.status.problem == "the server is stopping"
    with path.joinpath("metrics.jsonl").open("a") as file:
        file.write('{"time": 1.5, "fra')
    with Running(path, resume=True, server__settings={"level": 2}) as second:
        game = Bystander(second.port)
        second.until(
            lambda: (second.row.get("frames") or 0) > frames + 50, "it has played on", 30.0
        )
        game.stop()
        with serve(second) as web:
            past = ask(web, "/api/history?points=4096").json
            state = ask(web, "/api/state").json
    at, launches = past["columns"].index("frames"), past["starts"]
    assert [(s["launch"], s["frames"]) for s in launches] == [(1, 0), (2, frames)]
    shown = [row[at] for row in past["rows"] if row[at] is not None]
    assert shown == sorted(shown)
    assert shown[0] < frames < shown[-1]
    assert [(c["key"], c["who"]) for c in past["changes"]] == [
        ("learner.gamma", "http"), ("paused", "http"),
    ]  # fmt: skip
    assert state["run"]["launch"] == 2
    assert state["paused"] is False, "a start begins with training"
