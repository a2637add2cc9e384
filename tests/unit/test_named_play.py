"""Slots in the role play: who acts there, and what is not kept of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent.decision import ActingParams
from protocol.policies import PolicyName
from tests.support.frame_loop import POLICY_ACTION, FakePlayer, World
from tests.support.shelves import Files
from tests.support.worlds import DQN


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def world(files: Files) -> World:
    return World(shelf=files.shelf)


def joined(files: Files, world: World, name: PolicyName, slots: int = 1) -> FakePlayer:
    files.shelf.want(name, lambda _lacks: None)
    return world.player(slots, "play", policy=name)


def choices(player: FakePlayer) -> list[float | None]:
    return [None if answer.action is None else answer.action[0] for answer in player.answers]


@pytest.mark.promise("play-not-stored")
def test_play_is_stored_nowhere_and_counted_apart(world: World) -> None:
    training, playing = world.player(), world.player(role="play")
    for status in (0, 0, 1, 0):
        for player in (training, playing):
            player.frame(reward=1.0, status=status)
        world.run()
    playing.leave()
    world.run()
    assert {row["stream"] for row in world.rows()} == {training.streams[0]}
    assert world.frame_loop.frames == {"train": 4, "eval": 0, "eval_expert": 0, "play": 4}
    assert world.frame_loop.evaluating == (0, 0)
    assert world.frame_loop.stored == 2
    assert [episode.role for episode in world.episodes()] == ["train", "play"]


def test_expert_plays_nothing_in_the_role_play(world: World) -> None:
    world.params = ActingParams(expert_ratio=1.0, epsilon=1.0, noise=1.0)
    player = world.player(role="play")
    for _ in range(20):
        player.frame(expert=[1, [0.5, 0.75]])
        world.run()
    assert {answer.actor for answer in player.answers} == {DQN}
    assert not any(answer.explored for answer in player.answers)
    assert choices(player) == [POLICY_ACTION[0]] * 20


def test_play_explores_only_where_asked(world: World) -> None:
    world.params = ActingParams(expert_ratio=0.0, epsilon=1.0, noise=0.0)
    asked = world.player(role="play", explores=True)
    for _ in range(40):
        asked.frame()
        world.run()
    assert all(answer.explored for answer in asked.answers)
    assert len(set(choices(asked))) == 4


def test_each_policy_of_a_turn_is_asked_once_about_its_own_slots(
    files: Files, world: World
) -> None:
    files.write(10, 0)
    files.write(20, 3)
    ten = joined(files, world, PolicyName(update=10), 3)
    newest, twenty = world.player(2), joined(files, world, PolicyName(update=20))
    for slot in range(3):
        ten.frame(slot=slot)
    twenty.frame()
    for slot in range(2):
        newest.frame(slot=slot)
    world.run()
    assert choices(ten) == [0, 0, 0]
    assert choices(twenty) == [3]
    assert choices(newest) == [POLICY_ACTION[0]] * 2
    assert list(world.policy.batches) == [2], "the newest network is asked about two frames"
    versions = [player.answers[0].policy_version for player in (ten, twenty, newest)]
    assert versions == [100, 103, 7]


def test_opponent_is_drawn_anew_for_each_episode_and_stays_in_it(
    files: Files, world: World
) -> None:
    files.write(10, 0)
    files.write(20, 1)
    player = joined(files, world, PolicyName(recent=2))
    episodes = []
    for _ in range(40):
        for status in (0, 0, 0, 1):
            player.frame(status=status)
            world.run()
        episodes.append(tuple(choices(player)[-4:-1]))
    assert set(episodes) == {(0, 0, 0), (1, 1, 1)}


def test_newest_network_plays_while_there_is_no_checkpoint(files: Files, world: World) -> None:
    player = joined(files, world, PolicyName(recent=1))
    player.frame()
    player.frame(status=1)
    world.run()
    assert player.answers[0].policy_version == 7
    files.write(10, 3)
    files.look()
    player.frame()
    world.run()
    assert choices(player) == [POLICY_ACTION[0], None, 3]


def test_slots_of_different_opponents_in_one_message_have_version_0(
    files: Files, world: World
) -> None:
    files.write(10, 0)
    files.write(20, 1)
    player = joined(files, world, PolicyName(recent=2), 2)
    told = set()
    for _ in range(30):
        player.frames([0, 0], [0, 0], [0, 0])
        world.run()
        plays = np.frombuffer(player.last.actions, np.float32).reshape(2, -1)[:, 0].tolist()
        told.add((tuple(plays), player.last.policy_version))
        player.frames([0, 0], [0, 0], [1, 1])
        world.run()
    assert told == {((0, 0), 100), ((1, 1), 101), ((0, 1), 0), ((1, 0), 0)}


def test_slots_that_leave_let_their_checkpoints_go(files: Files, world: World) -> None:
    files.write(10, 0)
    name = PolicyName(update=10)
    players = [joined(files, world, name, 2) for _ in range(2)]
    for player in players:
        player.frames([0, 0], [0, 0], [0, 0])
    world.run()
    named = world.frame_loop.named
    assert named is not None
    for left, player in ((2, players[0]), (0, players[1])):
        player.leave()
        world.run()
        assert named.slots == left
    assert not named.shelf._held
    again = world.player(2)  # in the same rows
    again.frames([0, 0], [0, 0], [0, 0])
    world.run()
    assert np.frombuffer(again.last.actions, np.float32)[0] == POLICY_ACTION[0]
