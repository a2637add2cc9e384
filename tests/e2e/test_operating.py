"""What operators do to a server that runs: keys, `understudy control`, evaluations on request, JSON
logs, event files. Processes as their users start them."""

from __future__ import annotations

import http.client
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server import cli
from server.monitor.metrics import SERIES
from server.monitor.tensorboard import tag
from server.tui.keyboard import HELP
from tests.support.preloaded import Understudy, own_terminal
from tests.support.processes import descendants, end
from tests.support.running import Bystander, Running

OPTIONS = (
    "--port", "0", "--server.http_port", "0", "--learner.hidden", "[8]", "--metrics.every_s", "0.1",
    "--learner.batch_size", "16", "--trainer.device", "cpu", "--trainer.threads", "1",
    "--trainer.min_steps", "20",
)  # fmt: skip

START_S = 120.0
"""A start takes a few seconds; many times that where other tests have the cores."""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[Any]]]:
    """Processes that a test starts; none of them, nor of theirs, outlives it."""
    processes: list[subprocess.Popen[Any]] = []
    yield processes
    for process in processes:
        children = descendants(process.pid) if process.poll() is None else []
        process.kill()
        process.wait()
        for pid in children:
            end(pid)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def until(condition: Callable[[], Any], what: str, timeout_s: float = 40.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# Keys.


class Terminal:
    """`understudy serve` in a terminal of its own."""

    def __init__(self, run: Path, started: list[subprocess.Popen[Any]]) -> None:
        self.run = run
        self.shown = ""
        self._ours, theirs = pty.openpty()
        self.process = Understudy(
            "serve", "--run", str(run), *OPTIONS,
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            first=own_terminal, env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        )  # fmt: skip
        os.close(theirs)
        started.append(self.process)

    def see(self, text: str, timeout_s: float = 100.0) -> str:
        """Wait until this is shown, from now on; what is shown up to it."""
        deadline = time.monotonic() + timeout_s
        while text not in self.shown:
            assert time.monotonic() < deadline, f"no {text!r} in {self.shown[-3000:]}"
            if select.select([self._ours], [], [], 0.1)[0]:
                self.shown += os.read(self._ours, 65_536).decode(errors="replace")
        before, _, self.shown = self.shown.partition(text)
        return before

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def end(self) -> int:
        """Ctrl-C; the exit code."""
        self.press("\x03")
        deadline = time.monotonic() + 40.0
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown[-3000:]
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self._ours, 65_536).decode(errors="replace")
                except OSError:  # the other end is closed
                    break
        code = self.process.wait(20.0)
        os.close(self._ours)
        return code


@pytest.mark.timeout(300)
def test_keys_in_a_terminal_control_the_server(
    tmp_path: Path, started: list[subprocess.Popen[Any]]
) -> None:
    run = tmp_path / "run"
    terminal = Terminal(run, started)
    terminal.see("p pause · c checkpoint", START_S)
    terminal.press("p")
    terminal.see("pause training? Games go on [y/n]")
    assert lines(run / "changes.jsonl") == [], "it asks first"
    terminal.press("n")
    terminal.see("canceled")
    terminal.press("py")
    terminal.see("training is paused")
    terminal.press("r")
    terminal.see("expert ratio, 0 to 1")
    terminal.see("p resume · c checkpoint")
    terminal.see("waiting for a game, training paused")
    terminal.press("0.25\n")
    terminal.see("set expert.ratio to 0.25? [y/n]")
    terminal.press("y")
    terminal.see("expert.ratio.start: 0.5 -> 0.25")
    terminal.press("e\n")
    terminal.see("no training game is connected")
    terminal.press("cy")
    terminal.see("no checkpoint: no game has connected yet")
    kept = [(c["key"], c["to"], c["who"]) for c in lines(run / "changes.jsonl")]
    assert kept == [
        ("paused", True, "terminal"),
        ("expert.ratio.start", 0.25, "terminal"),
        ("expert.ratio.end", 0.25, "terminal"),
    ]
    assert terminal.end() == 0


def test_output_without_terminal_is_plain_and_reads_no_keys(
    tmp_path: Path, started: list[subprocess.Popen[Any]]
) -> None:
    process = Understudy(
        "serve", "--run", str(tmp_path / "run"), *OPTIONS,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    started.append(process)
    assert process.stdin is not None
    process.stdin.write("py\n")
    process.stdin.flush()
    until(lambda: len(lines(tmp_path / "run" / "metrics.jsonl")) > 5, "it runs")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=40.0)
    assert process.returncode == 0
    assert "\x1b" not in out
    assert HELP[-30:] not in out
    assert "frames 0 " in out
    assert not (tmp_path / "run" / "changes.jsonl").exists()


# A server with JSON logs and event files, and `understudy control`.


def control(run: Path, capsys: Any, *words: str) -> tuple[int, str, str]:
    code = cli.main(["control", "--run", str(run), *words])
    out, errors = capsys.readouterr()
    return code, out, errors


def test_server_writes_json_logs_and_event_files_and_answers_control(
    tmp_path: Path, started: list[subprocess.Popen[Any]], capsys: Any
) -> None:
    run, secret = tmp_path / "run", tmp_path / "token"
    secret.write_text("the control token\n")
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = Understudy(
            "serve", "--run", str(run), *OPTIONS, "--server.log_format", "json",
            "--metrics.tensorboard", "--server.control_token_file", str(secret), stdout=file,
        )  # fmt: skip
    started.append(process)
    port = int(
        until(lambda: re.search(r"listens on 127\.0\.0\.1:(\d+)", out.read_text()), "it runs")[1]
    )
    web = int(
        until(lambda: re.search(r"dashboard: http://127\.0\.0\.1:(\d+)/", out.read_text()), "HTTP")[
            1
        ]
    )
    code, _, errors = control(run, capsys, "evaluate")
    assert (code, "no training game is connected" in errors) == (2, True)
    assert (
        f"`understudy play --env LunarLander-v3 --clients 8 --connect 127.0.0.1:{port}`" in errors
    )
    game = Bystander(port, pause_s=0.0, evaluates=True)
    try:
        until(
            lambda: any((r.get("updates") or 0) > 5 for r in lines(run / "metrics.jsonl")),
            "it learns",
        )
        assert control(run, capsys, "pause")[:2] == (0, "training is paused; games play on\n")
        assert control(run, capsys, "pause")[:2] == (0, "training is paused already\n")
        assert control(run, capsys, "resume")[:2] == (0, "training resumed\n")
        code, said, _ = control(run, capsys, "checkpoint")
        assert (code, said.startswith("checkpoint written: ")) == (0, True)
        assert Path(said.split(": ")[1].strip()).exists()
        code, said, _ = control(
            run, capsys, "games", "start_level=3", "name=plain text", "deep={x = true}"
        )
        assert (code, json.loads(said.split(" -> ")[1])) == (
            0, {"start_level": 3, "name": "plain text", "deep": {"x": True}},
        )  # fmt: skip
        assert "asked to evaluate: bystander/1 (127.0.0.1:" in control(run, capsys, "evaluate")[1]
        for words, message in (
            (("games",), "expected at least one KEY=VALUE"),
            (("games", "x"), "expected KEY=VALUE"),
            (("games", "x=1", "x=2"), "set twice"),
            (("games", "understudy.x=1"), "kept for the protocol"),
            (("pause", "x=1"), "expected no KEY=VALUE"),
        ):
            code, _, errors = control(run, capsys, *words)
            assert (code, message in errors) == (2, True), errors
        with pytest.raises(SystemExit):
            cli.main(["control", "--run", str(run), "explode"])
        capsys.readouterr()
        kept = [(c["key"], c["who"]) for c in lines(run / "changes.jsonl")]
        assert kept == [
            ("paused", "cli"), ("paused", "cli"), ("checkpoint", "cli"), ("server.settings", "cli"),
            ("evaluate", "cli"),
        ]  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", web, timeout=20.0)
        headers = {"authorization": "Bearer the control token"}
        connection.request("POST", "/api/control", b'{"set": {}}', headers)
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        game.stop()
    process.send_signal(signal.SIGTERM)
    assert process.wait(40.0) == 0
    assert control(run, capsys, "pause")[0] == 1
    # Every line is JSON, on the console as in the file, and nothing tells the token.
    for path in (out, run / "understudy.log"):
        said_lines = lines(path)
        assert {"time", "level", "source", "text"} == set(said_lines[-1])
        assert any("welcome to session" in line["text"] for line in said_lines)
        assert "the control token" not in path.read_text()
    assert "control_token_file" in (run / "config.toml").read_text()
    assert "the control token" not in (run / "config.toml").read_text()
    _check_event_files(run)


def _check_event_files(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    tags = set(events.Tags()["scalars"])
    rows = lines(run / "metrics.jsonl")
    numbers = {name for row in rows for name, value in row.items() if value is not None}
    assert tags == {tag(name) for name in numbers - {"time"}}
    assert {"run/frames_per_s", "td_err_mean/dqn", "td_err_mean/expert", "errors/bad_token"} <= tags
    found = [(e.step, e.value) for e in events.Scalars("run/updates")]
    assert found == [(r["frames"] or 0, r["updates"]) for r in rows if r.get("updates") is not None]


def test_tensorboard_tags_are_unique() -> None:
    assert len({tag(name) for name in SERIES}) == len(SERIES)


def test_json_log_has_an_exception_on_one_line() -> None:
    import logging

    from server.run.logs import JsonFormatter

    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("me", logging.ERROR, "", 0, "it %s", ("failed",), sys.exc_info())
    text = JsonFormatter().format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert (line["level"], line["source"]) == ("ERROR", "me")
    assert line["text"].startswith("it failed\nTraceback")
    assert line["text"].endswith("two\nlines")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])


# Evaluations when somebody asks.


def test_evaluation_on_request_is_played_by_the_games(
    tmp_path: Path, started: list[subprocess.Popen[Any]]
) -> None:
    run = tmp_path / "run"
    with Running(run) as server:
        process = Understudy(
            "play", "--env", "CartPole-v1", "--clients", "2", "--eval-episodes", "3",
            "--connect", f"127.0.0.1:{server.port}", stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        server.until(lambda: (server.row.get("frames") or 0) > 100, "they play", 60.0)
        evaluations = run / "evaluations.jsonl"
        assert not evaluations.exists(), "nobody has asked"
        for n in (1, 2):
            answer = server.do(
                lambda: server.supervisor.controller.handle({"evaluate": True}, "test")
            )
            assert answer["text"].startswith("asked to evaluate: understudy-play/")
            assert all(f"understudy-play/{i} (127.0.0.1:" in answer["text"] for i in (0, 1))
            server.until(lambda n=n: len(lines(evaluations)) == n, "they evaluate", 60.0)
            assert len(lines(evaluations)[-1]["returns"]) == 3
            frames = server.wait_rows()["frames"]
            server.until(lambda f=frames: server.row["frames"] > f + 50, "they play on")
        server.until(lambda: not server.supervisor.status.evaluating, "it is over")
        # The same seeds each time, and as many as were asked for: none came twice.
        time.sleep(0.5)
        assert len(lines(evaluations)) == 2
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=40.0)
        assert process.returncode == 0, out
        assert out.count("the server asks for an evaluation") == 2
        assert out.count("evaluation after") == 2
