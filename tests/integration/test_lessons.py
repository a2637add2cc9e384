"""A lesson that begins in a running server: games are told, and the run remembers."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from config.load import config_of_run
from tests.support.running import RawClient, Running

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.timeout(120)]

PLAN = [
    {"metric": "episode_return_mean", "above": 1.5, "settings": {"level": 2}},
    {"metric": "episode_return_mean", "above": 1e9, "settings": {"level": 3}},
]


def test_game_is_told_when_a_lesson_begins_and_a_resumed_run_goes_on_there(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = {"server__settings": {"level": 1, "name": "x"}, "lessons__min_episodes": 3}
    with Running(folder, lessons__plan=PLAN, **settings) as server:
        with RawClient(server.port).welcome() as client:
            assert client.fields["settings"] == {"level": 1, "name": "x"}
            told: list[object] = []
            frames = itertools.count()

            def play_until_told() -> bool:
                seq = next(frames)
                answer = client.frame(seq, reward=2.0 if seq % 2 else 0.0, status=seq % 2)
                while answer[0] == 16:
                    told.append(answer[1])
                    answer = client.recv()
                return bool(told)

            server.until(play_until_told, "the game is told", 60.0)
            assert told == [{"level": 2}]
        server.until_row(lessons_begun=1)
        changes = [json.loads(line) for line in server.folder.changes.read_text().splitlines()]
        assert [(one["who"], one["key"], one["to"]) for one in changes] == [
            ("lesson 1", "server.settings", {"level": 2}),
            ("lesson 1", "lessons.begun", 1),
        ]
        assert "lesson 1 of 2 begins: episode_return_mean is 2" in server.log()
    config = config_of_run(folder)
    assert config.lessons.begun == 1
    assert config.server.settings == {"level": 2, "name": "x"}
    assert len(config.lessons.plan) == 2
