from __future__ import annotations

import pytest

from agent.step import FINAL, STEP
from tests.support.frame_loop import FakePlayer, World, brief


def test_disconnect_mid_episode_truncates_with_pending_frame() -> None:
    world = World()
    player = world.player()
    for i in range(3):
        player.frame(obs=i, reward=i)
        world.run()
    player.leave()
    world.run()
    stream = player.streams[0]
    assert [brief(row) for row in world.rows()] == [
        ("step", stream, 0, 0, 1, 0),
        ("step", stream, 1, 1, 2, 0),
        ("final", stream, 2, 2, 0, 0),
    ]
    assert world.frame_loop.slots == 0
    assert world.episodes() == [], "a broken episode has no return to show"


def test_disconnect_before_first_step_stores_nothing() -> None:
    world = World()
    player = world.player()
    player.frame()
    world.run()
    player.leave()
    world.run()
    assert world.rows() == []


@pytest.mark.parametrize("frames", [0, 1])
def test_disconnect_between_episodes_adds_no_final_row(frames: int) -> None:
    world = World()
    player = world.player()
    for status in (0, 1, *[0] * frames):
        player.frame(status=status)
        world.run()
    assert len(world.rows()) == 2
    player.leave()
    world.run()
    assert len(world.rows()) == 2, "the second episode has no step that a final row could end"


def test_disconnect_with_unanswered_frame_stores_that_frame() -> None:
    world = World()
    player = world.player()
    player.frame(obs=1)
    world.run()
    player.frame(obs=2, reward=3)
    player.leave()
    world.run()
    stream = player.streams[0]
    assert [brief(row) for row in world.rows()] == [
        ("step", stream, 0, 1, 3, 0),
        ("final", stream, 1, 2, 0, 0),
    ]
    assert len(player.answers) == 1
    assert world.frame_loop.slots == 0


def test_disconnect_with_unanswered_last_frame_stores_one_final_row() -> None:
    world = World()
    player = world.player()
    player.frame(obs=1)
    world.run()
    player.frame(obs=2, status=2)
    player.leave()
    world.run()
    assert [row["kind"] for row in world.rows()] == [STEP, FINAL]


def test_disconnect_stores_final_row_only_for_slots_with_a_step() -> None:
    world = World()
    player = world.player(slots=3)
    for slot, frames in ((0, 2), (1, 1)):
        for i in range(frames):
            player.frame(obs=10 * slot + i, slot=slot)
            world.run()
    player.leave()
    world.run()
    assert [brief(row)[:4] for row in world.rows()] == [
        ("step", player.streams[0], 0, 0),
        ("final", player.streams[0], 1, 1),
    ]


def test_full_sink_loses_no_rows_and_keeps_order() -> None:
    world = World(room=0)
    players = [world.player() for _ in range(4)]
    for player in players:
        player.frame()
    world.run()
    assert not world.frame_loop.full
    for player in players:
        player.frame(status=1)
    world.run()
    assert world.frame_loop.full
    assert all(len(player.answers) == 2 for player in players), "answers do not wait for the ring"
    for player in players:
        player.frame()
    world.run()
    assert all(len(player.answers) == 2 for player in players), "but the next turn does"
    expected = [("step", i) for i in range(4)] + [("final", i) for i in range(4)]
    for room in (3, 0, 1, 2, 2):
        world.sink.free += room
        world.frame_loop.flush()
    assert [
        (brief(row)[0], [p.streams[0] for p in players].index(row["stream"]))
        for row in world.rows()
    ] == expected
    assert not world.frame_loop.full
    world.run()
    assert all(len(player.answers) == 3 for player in players)
    assert world.frame_loop.stored == 4


def test_disconnect_while_sink_is_full_is_stored_later() -> None:
    world = World(room=0)
    player = world.player()
    for i in range(2):
        player.frame(obs=i)
        world.run()
    assert world.frame_loop.full
    player.frame(obs=2)
    player.leave()
    world.run()
    assert world.frame_loop.slots == 1
    world.sink.free = 100
    world.frame_loop.flush()
    world.run()
    assert [brief(row)[:4] for row in world.rows()] == [
        ("step", player.streams[0], 0, 0),
        ("step", player.streams[0], 1, 1),
        ("final", player.streams[0], 2, 2),
    ]
    assert world.frame_loop.slots == 0


def test_full_sink_pending_rows_are_bounded() -> None:
    world = World(room=0)
    players = [world.player(slots=4) for _ in range(4)]
    for status in (0, 0, 1, 0, 0, 0):
        for player in players:
            player.frames([0] * 4, [0] * 4, [status] * 4)
        world.run()
        if world.frame_loop.full:
            break
    assert world.frame_loop.full
    waits = len(world.frame_loop._steps._pending_steps)
    for player in players:
        player.leave()
        for _ in range(20):
            world.run()
    assert len(world.frame_loop._steps._pending_steps) == waits <= 3 * 16


def test_idle_is_false_while_frames_or_rows_wait() -> None:
    world = World(room=0)
    assert world.frame_loop.idle
    player = world.player()
    player.frame()
    assert not world.frame_loop.idle, "a frame waits"
    world.run()
    assert world.frame_loop.idle
    player.frame()
    world.run()
    assert not world.frame_loop.idle, "a step waits for the ring"
    world.sink.free = 1
    world.frame_loop.flush()
    assert world.frame_loop.idle
    player.leave()
    assert not world.frame_loop.idle, "an episode waits to be truncated"
    world.run()
    assert not world.frame_loop.idle, "its final row waits for the ring"
    world.sink.free = 1
    world.frame_loop.flush()
    assert world.frame_loop.idle


def test_players_joining_while_sink_is_full_keep_waiting_rows() -> None:
    """The tables grow under what waits in them."""
    world = World(room=0)
    first = [world.player() for _ in range(10)]
    for i in range(2):
        for n, player in enumerate(first):
            player.frame(obs=100 * i + n, reward=n)
        world.run()
    assert world.frame_loop.full
    for n, player in enumerate(first):
        player.frame(obs=200 + n, reward=n)
    later = [world.player() for _ in range(200)]
    for n, player in enumerate(later):
        player.frame(obs=1000 + n)
    world.sink.free = 10**6
    world.frame_loop.flush()
    world.run()
    assert [len(player.answers) for player in first] == [3] * 10
    assert [len(player.answers) for player in later] == [1] * 200
    assert [brief(row) for row in world.rows()] == [
        ("step", player.streams[0], i, 100 * i + n, n, 0)
        for i in range(2)
        for n, player in enumerate(first)
    ]


def test_in_flight_counters_are_updated_before_answers_are_sent() -> None:
    """Steps completed, and frames of training that are answered and not complete."""
    world = World()
    in_flight = world.frame_loop._steps._in_flight
    seen: list[list[int]] = []

    class Watcher(FakePlayer):
        def send(self, data: bytes) -> None:
            seen.append(in_flight.tolist())
            super().send(data)

    player = Watcher(world, 1, "train", 1)
    judge = FakePlayer(world, 1, "eval", 2)
    for status in (0, 0, 1, 0):
        player.frame(status=status)
        judge.frame()
        world.frame_loop.run()
    assert seen == [[0, 1], [1, 1], [2, 0], [2, 1]]
    player.leave()
    judge.leave()
    world.frame_loop.run()
    assert in_flight.tolist() == [2, 0], "cut in order: its frame ended the episode"
    assert world.frame_loop.stored == 2


def test_answered_frames_count_open_ones_and_not_those_of_games_that_left() -> None:
    world = World()
    one, two, student = world.player(), world.player(slots=2), world.player(role="eval")
    one.frame()
    two.frames([0, 0], [0, 0], [0, 0])
    student.frame()
    world.run()
    assert world.sink.answered == 3, "open ones count, those of evaluations do not"
    for status in (0, 0, 1):
        one.frame(status=status)
        world.run()
    assert world.sink.answered == 3 + 2, "the last frame of an episode has no action"
    two.leave()
    world.run()
    assert world.sink.answered == 3, "their open frames will never be complete"
    assert len([row for row in world.rows() if row["kind"] == STEP]) == 3
