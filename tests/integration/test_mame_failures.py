"""Emulators that end before their time begin again: with a program in the place of MAME."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.play import mame, tries
from server.play.mame import MameError, MameGames

EPISODE = '{"return": 1.0, "acts": 5, "dqn": 2, "expert": 3, "frames": 20}'


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program of Python in the place of MAME; it has `episodes`, `seed`, `log` and `game`
    (the number), and `first`: it has not begun before."""
    monkeypatch.setattr(tries, "FIRST_S", 0.05)

    def put(text: str) -> None:
        path = tmp_path / "mame"
        path.write_text(
            f"#!{sys.executable}\n"
            "import os, sys, time\n"
            "env = os.environ.get\n"
            "episodes, seed = int(env('UNDERSTUDY_EPISODES', 10**6)), int(env('UNDERSTUDY_SEED'))\n"
            "log = env('UNDERSTUDY_LOG')\n"
            "game, first = seed // 100_000, not seed % 100_000\n"
            f"EPISODE = '{EPISODE}'\n"
            "def say(text): print(text, flush=True)\n" + text
        )
        path.chmod(0o755)
        monkeypatch.setattr(mame, "find_mame", lambda: str(path))

    return put


def until_over(games: MameGames) -> None:
    deadline = time.monotonic() + 60.0
    while not games.over:
        assert time.monotonic() < deadline
        games.check()
        time.sleep(0.02)


PLAYS = "for _ in range(episodes): say(EPISODE)\nsay('{\"done\": true}')\n"


@pytest.mark.promise("game-fails")
def test_emulator_that_dies_begins_again_with_what_is_left(
    program: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(
        "open(log, 'w').write('1 0 1 0\\n')\n"
        "if game == 1 and first:\n    say(EPISODE)\n    say('lua error')\n    os.abort()\n" + PLAYS
    )
    logs = tmp_path / "logs"
    with MameGames("pong", 2, port=1, home=tmp_path / "home", episodes=6, log_dir=logs) as games:
        until_over(games)
    played = [episode.client for episode in games.episodes]
    assert sorted(played) == [0, 0, 0, 1, 1, 1]
    assert games.failures == ["game 1 ended with exit code -6: lua error"]
    assert capsys.readouterr().err == f"{games.failures[0]}; it begins again in 0.05 s\n"
    names = sorted(path.name for path in logs.iterdir())
    assert names == ["answers-0.txt", "answers-1-1.txt", "answers-1.txt"]


def test_emulator_that_always_dies_is_given_up_and_the_others_finish(
    program: Any, tmp_path: Path
) -> None:
    program("if game == 1: sys.exit(3)\n" + PLAYS)
    with MameGames("pong", 2, port=1, home=tmp_path / "home", episodes=4) as games:
        until_over(games)
    assert [episode.client for episode in games.episodes] == [0, 0]
    assert len(games.failures) == 1 + tries.MOST


def test_refused_emulators_do_not_begin_again(program: Any, tmp_path: Path) -> None:
    program("say('understudy: bad_token: expected the token')\nsys.exit(1)\n")
    with (
        MameGames("pong", 2, port=1, home=tmp_path / "home") as games,
        pytest.raises(MameError, match="bad_token: expected the token"),
    ):
        until_over(games)
    assert len(games.failures) == 2
