from __future__ import annotations

import numpy as np

from protocol.streams import stream_number
from server.gateway.episode_stats import MOST, EpisodeStats
from server.gateway.slots import SlotTable
from server.ipc.messages import FinishedEpisode
from tests.support.worlds import DQN, EXPERT, SPEC


def test_episode_sums_rewards_and_length_of_its_frames() -> None:
    table, stats = SlotTable(SPEC, 10), EpisodeStats()
    rows = table.take([stream_number(5, 0), stream_number(6, 0)], "eval")
    for earned, pending in ((0.0, False), (1.5, True), (2.0, True)):
        stats.add(table, rows, np.full(2, earned, np.float32), np.full(2, pending))
    stats.end(table, rows[1:], np.array([True]))
    assert stats.take() == [FinishedEpisode("eval", 3.5, 2, 6)]
    assert stats.take() == []
    assert table.episode_return[rows].tolist() == [3.5, 0]
    assert table.episode_length[rows].tolist() == [2, 0]


def test_single_frame_episode_is_not_recorded() -> None:
    table, stats = SlotTable(SPEC, 10), EpisodeStats()
    rows = table.take([1], "train")
    stats.add(table, rows, np.zeros(1, np.float32), np.array([False]))
    stats.end(table, rows, np.array([False]))
    assert stats.take() == []


def test_frames_counted_by_actor_of_preceding_action() -> None:
    table, stats = SlotTable(SPEC, 10), EpisodeStats()
    rows = table.take([1, 2], "train")
    nothing, pending = np.zeros(2, np.float32), np.ones(2, np.bool_)
    stats.add(table, rows, nothing, ~pending)
    table.actor[rows] = [DQN, EXPERT]
    stats.add(table, rows, nothing, pending)
    stats.add(table, rows, nothing, pending)
    assert table.played[rows].tolist() == [[1, 2, 0], [1, 0, 2]]


def test_episode_buffer_full_keeps_newest() -> None:
    table, stats = SlotTable(SPEC, 10), EpisodeStats()
    rows, pending = table.take([1], "train"), np.array([True])
    for i in range(MOST + 1):
        stats.add(table, rows, np.array([i], np.float32), pending)
        stats.end(table, rows, pending)
    taken = stats.take()
    assert len(taken) == MOST
    assert (taken[0].episode_return, taken[-1].episode_return) == (1, MOST)
