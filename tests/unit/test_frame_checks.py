from __future__ import annotations

import numpy as np
import pytest

from config.models import RewardConfig
from tests.support.frame_loop import REWARDS, World, brief
from tests.support.worlds import PIXELS


def test_reward_sum_overflow_fails_only_that_connection() -> None:
    """Each component is finite, their weighted sum is not: it would poison every weight."""
    reward = RewardConfig(weights={"score": 1e30})
    world = World(REWARDS, reward=reward, action=(1,))
    bad, good = world.player(), world.player()
    for player in (bad, good):
        player.frame(reward=[3e38, 0.0, 0.0])  # ignored: the first of an episode
    world.run()
    bad.frame(reward=[3e38, 0.0, 0.0])
    good.frame(reward=[0.0, 4.0, 0.0])
    world.run()
    assert bad.error is not None
    assert bad.error.code == "reward_not_finite"
    assert len(bad.answers) == 1
    assert good.error is None
    assert [brief(row) for row in world.rows()] == [("step", good.streams[0], 0, 0, 4, 0)]
    assert np.isfinite([row["reward"] for row in world.rows()]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_non_finite_observation_fails_only_that_connection(value: float, place: int) -> None:
    world = World()
    players = [world.player() for _ in range(3)]
    for i, player in enumerate(players):
        player.frame(obs=i)
    world.run()
    for i, player in enumerate(players):
        player.frame(obs=value if i == place else 10 + i, reward=i)
    world.run()
    bad = players.pop(place)
    assert bad.error is not None
    assert bad.error.code == "observation_not_finite"
    assert len(bad.answers) == 1
    assert all(player.error is None and len(player.answers) == 2 for player in players)
    streams = [player.streams[0] for player in players]
    assert [row["stream"] for row in world.rows()] == streams
    assert [brief(row)[3:] for row in world.rows()] == [(i, i, 0) for i in range(3) if i != place]
    bad.leave()
    for player in players:
        player.frame(obs=100)
    world.run()
    # The bad frame completed nothing, so there is no step for its final row to end.
    assert bad.streams[0] not in {row["stream"] for row in world.rows()}
    assert all(len(player.answers) == 3 for player in players)


def test_observation_above_magnitude_limit_is_refused() -> None:
    world = World()
    players = [world.player() for _ in range(4)]
    for player in players:
        player.frame(obs=1e9)
    wild = world.player()
    wild.frame(obs=-1.1e9)
    world.run()
    assert all(player.error is None and len(player.answers) == 1 for player in players)
    assert wild.error is not None
    assert wild.error.code == "observation_not_finite"


@pytest.mark.parametrize("slot", [0, 2])
def test_bad_value_of_one_slot_is_named(slot: int) -> None:
    """In a frame of all slots, and in one of its own; not where there is but one."""
    world = World(REWARDS, reward=RewardConfig(weights={"score": 1e30}), action=(1,))
    all_at_once, one_by_one, alone = world.player(slots=3), world.player(slots=3), world.player()
    obs = [np.nan if i == slot else 1.0 for i in range(3)]
    all_at_once.frames(obs, [[0.0] * 3] * 3, [0, 0, 0])
    one_by_one.frame(obs=np.nan, slot=slot, reward=[0.0] * 3)
    alone.frame(obs=np.nan, reward=[0.0] * 3)
    world.run()
    for player in (all_at_once, one_by_one):
        assert player.error is not None
        assert player.error.message.startswith(f"slot {slot}: expected numbers from ")
    assert alone.error is not None
    assert alone.error.message.startswith("expected numbers from ")


def test_frames_with_one_bad_slot_fail_whole_connection() -> None:
    world = World()
    vector, single = world.player(slots=3), world.player()
    vector.frames([1, 2, 3], [0, 0, 0], [0, 0, 0])
    single.frame(obs=4)
    world.run()
    vector.frames([1, np.nan, 3], [7, 7, 7], [0, 0, 0])
    single.frame(obs=5, reward=8)
    world.run()
    assert vector.error is not None
    assert "got nan in element 0" in vector.error.message
    assert [brief(row) for row in world.rows()] == [("step", single.streams[0], 0, 4, 8, 0)]
    assert len(single.answers) == 2


def test_failed_connection_releases_its_other_slots() -> None:
    world = World()
    player = world.player(slots=2)
    player.frame(obs=np.nan, slot=0)
    player.frame(obs=1, slot=1)
    world.run()
    assert player.error is not None
    assert player.released == [1]
    player.leave()
    world.run()
    assert world.frame_loop.slots == 0


def test_batch_of_only_bad_frames_skips_policy() -> None:
    world = World()
    player = world.player()
    player.frame(obs=np.nan)
    world.run()
    assert player.error is not None
    assert list(world.policy.batches) == []
    other = world.player()
    other.frame()
    world.run()
    assert len(other.answers) == 1


def test_uint8_observations_are_accepted_unchecked() -> None:
    world = World(PIXELS, action=(3,))
    player = world.player()
    for value in (255, 7):
        player.frame(obs=value)
        world.run()
    assert world.rows()[0]["obs"] == [255] * 6
