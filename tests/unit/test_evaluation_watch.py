"""Episodes of evaluation against the clock, without a clock."""

from __future__ import annotations

import numpy as np
import pytest

from config.models import EvaluationConfig
from protocol.errors import RemoteError
from protocol.streams import stream_number
from server.gateway.episode_stats import EpisodeStats
from server.gateway.evaluation_watch import GRACE_S, LONGEST_LOOK_S, EvaluationWatch
from server.gateway.slots import SlotTable
from server.ipc.messages import LIMIT, EvaluationGame
from tests.support.worlds import SPEC

LIMITS = EvaluationConfig(episode_frames=100, episode_s=5.0)
BEYOND_S = LIMITS.episode_s + GRACE_S


class FakeGame:
    def __init__(self, watched: Watched, role: str, slots: int, announced: int | None) -> None:
        self.number = len(watched.games) + 1
        streams = [stream_number(self.number, slot) for slot in range(slots)]
        self.rows = watched.table.take(streams, role)
        self.announced = announced
        self.said_bye = self.paused = self.ending = False
        self.error: RemoteError | None = None

    def fail(self, error: RemoteError) -> None:
        self.error, self.ending = error, True


class Watched:
    def __init__(self) -> None:
        self.table, self.watch, self.stats = SlotTable(SPEC, 20), EvaluationWatch(), EpisodeStats()
        self.games: list[FakeGame] = []
        self.now = 100.0
        self.watch.look(self.games, self.table, LIMITS, self.now)

    def come(self, role: str = "eval", slots: int = 1, announced: int | None = None) -> FakeGame:
        self.games.append(FakeGame(self, role, slots, announced))
        return self.games[-1]

    def frames(self, game: FakeGame, frames: int, slot: int = 0) -> None:
        """So many frames of an episode that goes on."""
        row = game.rows[slot]
        self.table.episode_length[row] += frames - (not self.table.pending[row])
        self.table.pending[row] = True

    def end(self, game: FakeGame, slot: int = 0) -> None:
        rows = game.rows[[slot]]
        self.stats.end(self.table, rows, self.table.pending[rows])
        self.table.pending[rows] = False

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            self.now += 0.25
            self.watch.look(self.games, self.table, LIMITS, self.now)


def test_episode_with_more_frames_than_allowed_is_cut_and_marked() -> None:
    watched = Watched()
    game = watched.come(slots=2)
    watched.frames(game, 101, slot=1)
    watched.wait(0.25)
    assert game.error is None, "it has 100 actions, and may end with the next frame"
    watched.frames(game, 1, slot=1)
    watched.wait(0.25)
    assert game.error is not None
    assert (game.error.code, game.error.retry) == ("episode_limit", True)
    assert "slot 1: expected an episode of evaluation of at most 100 frames" in game.error.message
    watched.frames(game, 10, slot=0)
    watched.stats.cut(watched.table, game.rows)
    assert [episode.cut for episode in watched.stats.take()] == ["left", LIMIT]


def test_episode_that_takes_too_long_is_cut_however_few_its_frames() -> None:
    watched = Watched()
    game, other = watched.come(announced=2), watched.come("train")
    watched.frames(game, 3)
    watched.frames(other, 3)
    watched.wait(BEYOND_S - 0.5)
    assert game.error is None
    watched.wait(1.0)
    assert game.error is not None
    assert game.error.code == "episode_limit"
    assert watched.table.limited[game.rows].all()
    assert other.error is None, "training has no limit"


def test_each_episode_has_its_own_time() -> None:
    watched = Watched()
    game = watched.come()
    for _ in range(5):
        watched.frames(game, 3)
        watched.wait(BEYOND_S - 1)
        watched.end(game)
    assert game.error is None


def test_time_in_which_the_server_does_not_read_or_sleeps_does_not_count() -> None:
    watched = Watched()
    game = watched.come()
    watched.frames(game, 3)
    game.paused = True
    watched.wait(10 * BEYOND_S)
    game.paused = False
    watched.now += 10 * BEYOND_S
    watched.watch.look(watched.games, watched.table, LIMITS, watched.now)
    watched.wait(BEYOND_S - LONGEST_LOOK_S - 0.5)
    assert game.error is None
    watched.wait(1.0)
    assert game.error is not None


@pytest.mark.parametrize(
    ("announced", "played", "told"), [(None, 0, True), (3, 2, True), (3, 3, False), (3, 0, True)]
)
def test_game_that_does_nothing_is_told_unless_it_has_played_what_it_announced(
    announced: int | None, played: int, told: bool
) -> None:
    watched = Watched()
    game = watched.come(announced=announced)
    watched.wait(1.0)
    for _ in range(played):
        watched.frames(game, 3)
        watched.end(game)
    watched.wait(BEYOND_S + 1.0)
    assert (game.error is not None) is told
    assert not watched.table.limited[game.rows].any(), "no episode was cut"


def test_report_has_who_plays_evaluation_and_how_long() -> None:
    watched = Watched()
    game = watched.come("eval_expert", slots=2, announced=7)
    watched.come("train")
    watched.wait(1.0)
    watched.frames(game, 42, slot=1)
    watched.wait(2.0)
    (found,) = watched.watch.games(watched.games, watched.table)
    assert found == EvaluationGame(1, "eval_expert", 2, 7, 41, 2.0)
    game.said_bye = True
    gone = watched.watch.games([game], watched.table)
    assert gone[0].bye, "also when it is leaving"
    watched.table.give_back(game.rows)
    assert np.array_equal(watched.table.by_role[0], 1)
