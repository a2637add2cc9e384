"""Whose run is it? `run.game` names the game that a run is for: a leftover game of another kind
cannot claim it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from config.load import config_of_run
from config.models import Config
from server import cli
from server.commands import demo_run, record
from server.play.games import game_of
from server.run.directory import game_of as game_of_run
from tests.support.running import RawClient, Running, hello_fields
from tests.support.tempest_client import TempestClient, framed, payload
from tests.support.worlds import SPEC

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.timeout(120)]


def refused(server: Running, **changes: Any) -> tuple[str, str, bool]:
    """A game connects: code, message and `retry` of the error that it gets."""
    with RawClient(server.port) as client:
        client.send([1, hello_fields(**changes)])
        return client.refusal()


@pytest.mark.promise("run-game")
def test_leftover_game_of_another_kind_cannot_claim_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Running(run, run__game=SPEC.game) as server:
        for _ in range(3):
            code, message, retry = refused(server, game="leftover")
            assert code == "spec_mismatch"
            assert "the game is 'leftover', this run is for 'test' (run.game)" in message
            assert not retry
        assert game_of_run(run) is None
        assert str(server.supervisor.status.start_hint).startswith("start your game 'test'")
        with RawClient(server.port).welcome() as ours, RawClient(server.port).welcome() as second:
            for client in (ours, second):
                assert client.frame(0)[0] == 12, "of the same kind, whoever started it"
        server.until(lambda: server.row.get("errors_spec_mismatch") == 3, "they are counted")
        lines = [line for line in server.log().splitlines() if "leftover" in line]
        assert len(lines) == 1, "one line for the address, the next one later"
    assert game_of_run(run) == SPEC


@pytest.mark.promise("run-game")
def test_resumed_run_keeps_its_game_without_the_setting(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Running(run) as server, RawClient(server.port).welcome() as client:
        client.frame(0)
    assert config_of_run(run).run.game is None
    with Running(run, resume=True) as server:
        code, message, _ = refused(server, game="leftover")
        assert code == "spec_mismatch"
        assert "the game is 'leftover', this run's is 'test'" in message
        with RawClient(server.port).welcome() as client:
            assert client.frame(0)[0] == 12


@pytest.mark.promise("run-game")
def test_older_tempest_client_cannot_claim_the_run_of_another_game(tmp_path: Path) -> None:
    with Running(tmp_path / "run", run__game=SPEC.game, tempest__port=0) as server:
        port = server.supervisor.tempest_port
        assert port is not None
        client = TempestClient(port)
        try:
            client.raw(framed(payload([0.0] * 195)))
            assert client.reply() is None
        finally:
            client.sock.close()
        server.until(lambda: server.row.get("errors_spec_mismatch") == 1, "it is counted")
        assert "the game is 'tempest', this run is for 'test'" in server.log()
        with RawClient(server.port).welcome() as ours:
            assert ours.frame(0)[0] == 12


@pytest.mark.parametrize(
    ("env", "game"),
    [
        ("LunarLander-v3", "LunarLander-v3"),
        ("my.games:Reach-v0", "Reach-v0"),
        ("ALE/Pong-v5", "ALE/Pong-v5"),
        ("CartPole", None),
    ],
)
def test_game_of_an_environment(env: str, game: str | None) -> None:
    assert game_of(env) == game


class Stopped(Exception):
    """The server would have started."""


def test_demo_names_its_game(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Config] = []

    @contextmanager
    def running(config: Config, **_: Any) -> Iterator[Any]:
        seen.append(config)
        raise Stopped
        yield

    monkeypatch.setattr(demo_run, "running", running)
    monkeypatch.setattr("server.commands.demo_mame.find_mame", lambda: None)
    for words in (["demo", "--env", "CatchPixels-v0"], ["demo-mame", "--game", "pong"]):
        with pytest.raises(Stopped):
            cli.main([*words, "--run", str(tmp_path / "run")])
    assert [config.run.game for config in seen] == ["CatchPixels-v0", "mame-pong"]


def test_record_of_an_environment_names_its_game(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    record.add_arguments(parser)
    words = ["--out", str(tmp_path / "x.npz")]
    for env, game in (["--env", "CatchPixels-v0"], "CatchPixels-v0"), ([], None):
        config = record._config(parser.parse_args([*words, *env]), tmp_path / "run")
        assert config.run.game == game
