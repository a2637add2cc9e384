"""What games name themselves: the parts of the reward by actor, and the numbers of their frames."""

from __future__ import annotations

import math

import numpy as np
import pytest

from config.models import RewardConfig
from protocol.actor import Actor
from server.gateway.frame_loop import FrameLoop
from server.ipc.game_report import GameReport
from server.monitor.collector import MetricsCollector
from server.monitor.game_metrics import MOST, GameMetrics, is_game_metric, parsed
from server.monitor.metrics import SERIES
from server.monitor.tensorboard import tag
from server.run.history import History
from tests.support.frame_loop import REWARDS, World
from tests.support.reports import report

DQN, EXPERT = int(Actor.DQN), int(Actor.EXPERT)


def taken(loop: FrameLoop) -> dict[str, float]:
    sums, steps = loop.reward_parts.take()
    metrics = GameMetrics()
    metrics.take(GameReport(reward_parts=sums, reward_steps=steps))
    return metrics.row()


def test_parts_of_the_reward_are_means_over_each_actors_steps_in_training() -> None:
    world = World(REWARDS, reward=RewardConfig(weights={"life": 10.0}), action=(1,))
    one, two = world.player(), world.player(role="eval")
    for seq, (score, life) in enumerate(((9, 9), (1, 0), (2, -1), (4, 0))):
        took = [[0], EXPERT] if seq == 3 else None
        for player in (one, two):
            player.frame(reward=[score, life, 0.5], took=took if player is one else None)
        world.frame_loop.run()
    row = taken(world.frame_loop)
    assert row == {
        "reward_part/dqn/score": 1.5,
        "reward_part/dqn/life": -5.0,
        "reward_part/dqn/time": 0.5,
        "reward_part/expert/score": 4.0,
        "reward_part/expert/life": 0.0,
        "reward_part/expert/time": 0.5,
    }
    assert taken(world.frame_loop).keys() == row.keys()
    assert all(math.isnan(value) for value in taken(world.frame_loop).values()), "counted twice"


def test_game_with_one_reward_has_no_parts() -> None:
    world = World()
    player = world.player()
    for _ in range(3):
        player.frame(reward=1.0)
        world.frame_loop.run()
    assert taken(world.frame_loop) == {}


def test_reports_of_gateways_add_up_and_a_row_begins_anew() -> None:
    metrics = GameMetrics()
    for dqn in (6.0, 2.0):
        parts = {"goal": np.array([0, dqn, 0.0])}
        metrics.take(GameReport(reward_parts=parts, reward_steps=np.array([0.0, 2, 0])))
    row = metrics.row()
    assert row["reward_part/dqn/goal"] == 2.0
    assert math.isnan(row["reward_part/expert/goal"])
    assert metrics.row()["reward_part/dqn/goal"] == 2.0, "nobody has reported since"
    metrics.take(GameReport())
    assert math.isnan(metrics.row()["reward_part/dqn/goal"])


def test_numbers_of_episodes_are_means_over_the_newest_hundred() -> None:
    collector = MetricsCollector()
    game = GameReport(numbers=[{"coins": (1.0, at)} for at in range(150)])
    collector.gateway(report(game=game))
    row = collector.row()
    assert row["game_mean/coins"] == 1.0
    assert row["game_peak/coins"] == np.mean(range(50, 150))
    collector.gateway(report(game=GameReport(numbers=[{"level": (2.0, 3.0)}])))
    assert collector.row()["game_peak/level"] == 3.0


def test_names_beyond_the_limit_are_not_kept() -> None:
    metrics = GameMetrics()
    metrics.take(GameReport(numbers=[{f"n{i}": (0.0, 0.0) for i in range(MOST + 9)}]))
    assert len(metrics.row()) == 2 * MOST


@pytest.mark.parametrize("own", ["goal", "a/b", "x y é", "dqn/goal"])
def test_name_is_taken_apart_whatever_the_game_calls_it(own: str) -> None:
    for family in ("game_mean", "game_peak"):
        assert is_game_metric(f"{family}/{own}")
        found = parsed(f"{family}/{own}")
        assert (found.family, found.actor, found.name) == (family, "", own)
        assert tag(f"{family}/{own}") == f"{family}/{own}"
    found = parsed(f"reward_part/expert/{own}")
    assert (found.family, found.actor, found.name) == ("reward_part", "expert", own)
    assert not any(map(is_game_metric, SERIES))
    assert not is_game_metric(f"secret/{own}")


def test_history_has_columns_for_names_that_come_later() -> None:
    history = History(("time",))
    history.add({"time": 1.0})
    history.widen(["game_mean/coins", "time"])
    history.add({"time": 2.0, "game_mean/coins": 5.0})
    assert history.columns == ["time", "game_mean/coins"]
    assert history.rows(10) == [[1.0], [2.0, 5.0]]
