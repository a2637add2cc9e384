"""Games of every space and of several agents, against a real server that learns from them."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from server.play.evaluator import Evaluator
from server.play.game_messages import GameEpisode, GameOptions
from server.play.games import Games
from tests.support.running import Running
from tests.support.spaced import NESTED
from understudy_client.env_options import EnvOptions

pytestmark = pytest.mark.timeout(180)


def learnt_from(folder: Path, env: str, frames: int, **more: Any) -> tuple[Any, list[GameEpisode]]:
    """What the server knows of the game after so many frames, and the episodes."""
    with Running(folder) as server:
        with Games(GameOptions(env, "127.0.0.1", server.port, frames=frames, **more)) as games:
            games.start(1)
            assert games.wait(90.0)
            assert games.failures == []
            server.until(lambda: server.row.get("updates", 0) > 10, "updates", 60.0)
            episodes = games.episodes()
        settled = server.settle()
        assert settled["frames"] == sum(episode.length for episode in episodes)
        return server.supervisor.folder.game(), episodes


def test_game_of_every_space_is_played_and_learnt_from(tmp_path: Path) -> None:
    spec, episodes = learnt_from(tmp_path / "run", NESTED, 120)
    assert [episode.length for episode in episodes] == [10] * 12
    assert [each.name for each in spec.observations] == [
        "camera", "inner.0", "inner.1", "flags", "many", "planes", "counts",
    ]  # fmt: skip
    assert [head.name for head in spec.actions] == [
        "move.0", "move.1", "keys[0]", "keys[1]", "gears[0]", "gears[1]", "level[0]",
    ]  # fmt: skip


def test_numbers_and_parts_of_the_reward_in_info_become_metrics(tmp_path: Path) -> None:
    making = EnvOptions(metrics=("place",), rewards=("cost",))
    env = "lab.games.small:Int64-v0"
    with (
        Running(tmp_path / "run") as server,
        Games(GameOptions(env, "127.0.0.1", server.port, frames=200, making=making)) as games,
    ):
        games.start(1)
        assert games.wait(90.0)
        assert games.failures == []
        server.settle()
        row = server.row
        assert 0 <= row["game_mean/place"] <= row["game_peak/place"] <= 8
        parts = {name.rpartition("/")[2] for name in row if name.startswith("reward_part/")}
        assert parts == {"cost", "rest"}
        assert server.supervisor.folder.game().rewards == ("cost", "rest")


def test_agents_of_a_parallel_environment_share_a_policy(tmp_path: Path) -> None:
    pytest.importorskip("pettingzoo", reason="needs the extra pettingzoo")
    spec, episodes = learnt_from(
        tmp_path / "run",
        "tests.support.parallel_games:relay_v0",
        90,
        expert="tests.support.parallel_games:ones",
    )
    assert spec.game == "relay-v0"
    assert [episode.length for episode in episodes] == [9] * 10
    # No advice for one of three agents: it plays as the network says.
    assert 0 < sum(episode.expert for episode in episodes) <= 50


def test_parallel_environment_is_evaluated_by_network_and_expert(tmp_path: Path) -> None:
    """To the server each agent's episode is one; an episode's return is the mean of its agents'."""
    pytest.importorskip("pettingzoo", reason="needs the extra pettingzoo")
    with Running(tmp_path / "run") as server:
        options = GameOptions(
            "tests.support.parallel_games:relay_v0", "127.0.0.1", server.port, seed=3,
            expert="tests.support.parallel_games:all_ones", evaluates=True,
        )  # fmt: skip
        with Games(options) as games, Evaluator(options, lambda: time.sleep(0.01)) as evaluator:
            games.start(1, limit=30)
            evaluator.start(2)
            played = evaluator.evaluate(games, 4, expert=True)
        assert [*games.failures, *(f for each in evaluator.players for f in each.failures)] == []
        server.until(
            lambda: [e for e in server.supervisor.status.evaluations if e["expert_mean"]],
            "it is recorded",
        )
        (found,) = server.supervisor.status.evaluations
    assert played.missing == 0
    assert [episode.length for episode in played.student + played.teacher] == [9] * 8
    assert {episode.dqn for episode in played.student} == {9}
    assert {episode.expert for episode in played.teacher} == {9}
    # 11 + 12, 11 + 12 + 13 + 14, and 12 + 13 + 14 of the agent that comes with the second step.
    assert [episode.return_ for episode in played.teacher] == pytest.approx([112 / 3] * 4)
    assert found["expert_mean"] == pytest.approx(112 / 3)
    assert found["mean"] == pytest.approx(fmean(episode.return_ for episode in played.student))
