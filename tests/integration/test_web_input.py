"""HTTP refuses bad input, says what was expected, and logs little."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from server.web import app
from server.web.server import HttpServer
from tests.support.web import TOKEN, Answer, exchange, get, web_server

LINE = b"GET / HTTP/1.1\r\nHost: localhost\r\n"

Served = tuple[HttpServer, Path]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with web_server(tmp_path_factory.mktemp("web") / "run") as one:
        yield one


def expected(answer: Answer, *statuses: int) -> str:
    """The text of an error, which has one of these statuses."""
    assert answer.status in statuses, (answer.status, answer.body[:300])
    assert answer.type == "application/json"
    text: str = json.loads(answer.body)["error"]
    assert "expected" in text, text
    assert len(text) < 1000
    return text


@pytest.mark.promise("http-bad-input")
@pytest.mark.parametrize(
    "digits", ["9" * 5000, "1" + "0" * 5000, "0" * 5000 + "7", "-1", "1e3", "٧"]
)
def test_number_of_any_length_in_a_path_is_not_found(served: Served, digits: str) -> None:
    target = "/api/games/" + "".join(
        c if c.isascii() else "".join(f"%{b:02x}" for b in c.encode()) for c in digits
    )
    expected(get(served[0].port, target), 404)
    assert get(served[0].port, "/api/games/7").status == 200


@pytest.mark.promise("http-bad-input")
@pytest.mark.parametrize(
    "points",
    ["9" * 5000, "0" * 5000, "000000001" + "0" * 5000, "1e999", "NaN", "", "%d9%a7", "1&points=x"],
)
def test_points_of_any_length_are_refused(served: Served, points: str) -> None:
    assert "from 1 to 4096" in expected(get(served[0].port, f"/api/history?points={points}"), 400)


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", (414,)),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", (431,)),
        (b"hello\r\n\r\n", (400,)),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (400,)),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", (400, 421)),
        (LINE + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", (400,)),
        (LINE + b"Transfer-Encoding: x\r\n\r\n", (400, 501)),
        (LINE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", (400,)),
        (b"GET /" + b"x" * 20_000, (414,)),
        (LINE + b"X: " + b"y" * 20_000, (431,)),
        (b"GET /api/state HTTP/1.1\r\nHost: [::1]x\r\n\r\n", (421,)),
        (b"GET /nothing HTTP/1.1\r\nHost: [::1]x\r\n\r\n", (421,)),
    ],
)  # fmt: skip
def test_what_is_no_http_is_refused_in_json(
    served: Served, sent: bytes, statuses: tuple[int, ...]
) -> None:
    expected(exchange(served[0].port, sent), *statuses)


@pytest.mark.parametrize("path", ["/api/nothing", "/static/%00", "/static/" + "x" * 5000, "/%ff"])
def test_unknown_path_says_what_was_expected(served: Served, path: str) -> None:
    expected(get(served[0].port, path), 404)


def test_wrong_method_is_told_the_right_one(served: Served) -> None:
    for method, path, right in (("POST", "/api/state", "GET"), ("GET", "/api/control", "POST")):
        sent = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert right in expected(exchange(served[0].port, sent.encode(), method), 405)


PATHS = (
    "/", "/game/7", "/compare", "/healthz", "/readyz", "/metrics", "/static/index.html",
    "/api/state", "/api/history", "/api/games", "/api/games/7", "/api/errors", "/api/runs",
    "/api/compare", "/api/control",
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW")
NUMBERS = ("0", "-1", "9" * 4400, "1e999", "NaN", "0x10", "000000001" + "0" * 5000, "%00", "٣")
HEADERS = (
    "Range: bytes=0-" + "9" * 5000, "Range: bytes=-" + "9" * 5000, "Range: bytes=5-1",
    "Range: bytes=0-1,3-4", "Range: lines=1", "If-None-Match: *", "If-Range: x",
    "If-Modified-Since: " + "9" * 5000, "If-Modified-Since: Mon, 99 Foo 99999 99:99:99 GMT",
    "Expect: 100-continue", "Upgrade: websocket", "Connection: Upgrade", "Accept: *",
    "Authorization: Bearer", f"Authorization: Bearer {TOKEN}", "Authorization: Basic \xff",
    "Content-Type: \xfe", "Cookie: " + "a=b;" * 500, "Forwarded: for=\xe9", "X-Forwarded-For: '",
)  # fmt: skip
BODIES = (
    b"", b"{", b"[" * 5000, b"1e999", b"NaN", b"9" * 5000, b'{"set":{"expert.ratio":1e999}}',
    b'{"games":{"a":' + b"9" * 5000 + b"}}", b"\xff\xfe", b"x" * 66_000,
)  # fmt: skip

word = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)


def quoted(text: str) -> str:
    """As it may stand in an address: some of it as it is, bytes otherwise."""
    return "".join(
        c if c.isascii() and c.isalnum() else "".join(f"%{b:02x}" for b in c.encode()) for c in text
    )


targets = st.builds(
    lambda path, more, query: path + more + query,
    st.sampled_from(PATHS) | word.map(lambda text: "/" + quoted(text)),
    st.sampled_from(("", "/", "//", "/..", "/%2e%2e/x", "/%00", "?", *NUMBERS))
    | word.map(lambda text: "/" + quoted(text)),
    st.lists(
        st.tuples(
            st.sampled_from(("points", "run", "curve")) | word.map(quoted),
            st.sampled_from(NUMBERS) | word.map(quoted),
        ),
        max_size=4,
    ).map(lambda pairs: "?" + "&".join(f"{name}={value}" for name, value in pairs)),
).map(lambda target: "".join(c if c.isascii() else quoted(c) for c in target))


@pytest.mark.promise("http-bad-input", "peers-fill-no-log")
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(METHODS),
    targets,
    st.lists(st.sampled_from(HEADERS), max_size=4, unique=True),
    st.sampled_from(BODIES),
    st.sampled_from(("localhost", "127.0.0.1:1", "[::1]x", "[", "", "\xe9", "x" * 5000)),
)
@example("GET", "/static/index.html", [HEADERS[0]], b"", "localhost")
@example("GET", "/static/%00", [], b"", "localhost")
def test_no_request_makes_an_internal_error(
    served: Served, method: str, target: str, headers: list[str], body: bytes, host: str
) -> None:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers]
    lines += ["Connection: close", f"Content-Length: {len(body)}", "", ""]
    before = served[1].stat().st_size
    answer = exchange(served[0].port, "\r\n".join(lines).encode("latin-1") + body, method)
    assert answer.status not in (0, 500), (method, target[:80], headers, host)
    assert answer.status < 500 or target.startswith(("/api/runs", "/api/compare"))
    if answer.status >= 400 and method != "HEAD" and answer.type == "application/json":
        assert json.loads(answer.body)["error"]
    written = served[1].read_text()[before:]
    assert "Traceback" not in written
    assert len(written) < 2000


@pytest.mark.promise("peers-fill-no-log")
def test_hundreds_of_bad_requests_leave_some_lines(tmp_path: Path) -> None:
    kinds = (
        b"hello\r\n\r\n",
        LINE.replace(b"/ ", b"/api/games/" + b"9" * 5000 + b" ") + b"Connection: close\r\n\r\n",
        b"POST /api/control HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        LINE.replace(b"/ ", b"/api/state ") + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x80" * 50_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade, close\r\nUpgrade: x\r\n\r\n",
    )  # fmt: skip
    with web_server(tmp_path / "run") as (server, log):
        for at in range(600):
            exchange(server.port, kinds[at % len(kinds)], "POST" if at % len(kinds) == 2 else "GET")
        assert log.stat().st_size < 60_000
        assert "Traceback" not in log.read_text()


@pytest.mark.promise("peers-fill-no-log")
def test_unexpected_error_is_answered_and_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("nobody has thought of this")

    monkeypatch.setattr(app, "exposition", fail)
    with web_server(tmp_path / "run") as (server, log):
        for _ in range(100):
            answer = get(server.port, "/metrics")
            assert answer.status == 500
            assert "the server's log" in json.loads(answer.body)["error"]
        assert get(server.port, "/healthz").status == 200
        time.sleep(0.05)
        written = log.read_text()
        assert written.count("Traceback") == 1
        assert len(written) < 10_000
