"""A lesson that begins in a running server: games are told, and the run remembers."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import msgspec
import pytest

from config.load import config_of_run
from tests.support.running import RawClient, Running, obs_of
from tests.support.worlds import SPEC

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.timeout(120)]

PLAN = [
    {"metric": "game_peak/coins", "above": 6.5, "settings": {"level": 2}},
    {"metric": "episode_return_mean", "above": 1e9, "settings": {"level": 3}},
]

REWARDED = msgspec.structs.replace(SPEC, rewards=("goal", "time"))


def test_game_is_told_when_a_lesson_begins_and_a_resumed_run_goes_on_there(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = {"server__settings": {"level": 1, "name": "x"}, "lessons__min_episodes": 3}
    with Running(folder, lessons__plan=PLAN, **settings) as server:
        with RawClient(server.port).welcome(REWARDED, metrics=["coins"]) as client:
            assert client.fields["settings"] == {"level": 1, "name": "x"}
            told: list[object] = []
            frames = itertools.count()

            def play_until_told() -> bool:
                seq = next(frames)
                reward, coins = [2.0 * (seq % 2), 1.0], [3 + 4 * (seq % 2)]
                client.send([2, 0, seq, obs_of(seq), reward, seq % 2, None, None, None, coins])
                while (answer := client.recv())[0] == 16:
                    told.append(answer[1])
                return bool(told)

            server.until(play_until_told, "the game is told", 60.0)
            assert told == [{"level": 2}]
        server.until_row(lessons_begun=1)
        last = server.supervisor.last
        assert (last["game_mean/coins"], last["game_peak/coins"]) == (5.0, 7.0)
        assert last["reward_part/dqn/goal"] == 2.0
        assert last["reward_part/dqn/time"] == 1.0
        state = server.supervisor.status.state()
        assert state["last"]["game_peak/coins"] == 7.0
        assert state["row"].keys() >= {"game_mean/coins", "reward_part/expert/goal"}
        history = server.supervisor.status.history(10)
        assert history["rows"][-1][history["columns"].index("game_peak/coins")] == 7.0
        changes = [json.loads(line) for line in server.folder.changes.read_text().splitlines()]
        assert [(one["who"], one["key"], one["to"]) for one in changes] == [
            ("lesson 1", "server.settings", {"level": 2}),
            ("lesson 1", "lessons.begun", 1),
        ]
        assert "lesson 1 of 2 begins: game_peak/coins is 7" in server.log()
    config = config_of_run(folder)
    assert config.lessons.begun == 1
    assert config.server.settings == {"level": 2, "name": "x"}
    assert len(config.lessons.plan) == 2
