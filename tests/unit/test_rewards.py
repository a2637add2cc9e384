from __future__ import annotations

import pytest

from config.models import RewardConfig
from tests.support.frame_loop import REWARDS, World


@pytest.mark.parametrize(
    ("reward", "clip", "expected"),
    [([1, 1, 1], None, 2 - 3 + 1), ([1, 0, 0], 1.0, 1), ([0, 5, 0], 1.0, -1), ([1, 0, 2], 10.0, 4)],
)
def test_rewards_are_weighted_then_clipped_but_returns_are_not(
    reward: list[float], clip: float | None, expected: float
) -> None:
    world = World(
        REWARDS, reward=RewardConfig(weights={"score": 2.0, "life": -3.0}, clip=clip), action=(1,)
    )
    player = world.player()
    player.frame(reward=[0.0, 0.0, 0.0])
    world.run()
    player.frame(reward=reward, status=1)
    world.run()
    assert world.rows()[0]["reward"] == expected
    # Returns that people see are before the clip.
    assert world.episodes()[0].episode_return == 2 * reward[0] - 3 * reward[1] + reward[2]


def test_changed_clip_holds_for_the_next_frame() -> None:
    world = World(reward=RewardConfig(clip=1.0))
    player = world.player()
    for reward, clip in ((0.0, 1.0), (5.0, 1.0), (5.0, 2.0), (5.0, None)):
        world.frame_loop.change_reward(RewardConfig(clip=clip))
        player.frame(reward=reward)
        world.run()
    assert [row["reward"] for row in world.rows()] == [1.0, 2.0, 5.0]
