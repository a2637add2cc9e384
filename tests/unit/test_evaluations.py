from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest

from server.ipc.messages import FinishedEpisode
from server.run.evaluations import MOST, Evaluation, Evaluations

NONE: dict[str, Any] = {
    "eval_return_mean": None,
    "eval_episodes": None,
    "eval_frames": None,
    "eval_return_best": None,
    "expert_return_mean": None,
    "expert_episodes": None,
}


def student(*returns: float) -> list[FinishedEpisode]:
    return [FinishedEpisode("eval", each, 10) for each in returns]


def teacher(*returns: float) -> list[FinishedEpisode]:
    return [FinishedEpisode("eval_expert", each, 10) for each in returns]


class Gateway:
    """Reports of one gateway, with a clock that says which report it is."""

    def __init__(self, evaluations: Evaluations | None = None) -> None:
        self.evaluations = evaluations or Evaluations()
        self.now = 0.0

    def report(
        self, playing: int, episodes: list[FinishedEpisode], frames: int = 0, version: int = 1
    ) -> list[Evaluation]:
        self.now += 1
        found = self.evaluations.report(playing, episodes, frames, version, self.now)
        if self.evaluations.over:
            found += self.evaluations.close(self.now)
        return found

    def evaluate(self, *episodes: FinishedEpisode, frames: int = 0) -> Evaluation:
        """A whole evaluation in two reports."""
        assert self.report(1, [], frames) == []
        (found,) = self.report(0, list(episodes), frames)
        return found

    @property
    def numbers(self) -> dict[str, Any]:
        """NaN as None, for NaN equals nothing."""
        return {
            name: None if math.isnan(value) else value
            for name, value in self.evaluations.numbers().items()
        }


def test_evaluation_spans_first_game_joined_to_last_game_left() -> None:
    gateway = Gateway()
    assert gateway.report(0, [], 50) == []
    assert gateway.numbers == NONE
    assert gateway.report(1, [], frames=100, version=7) == []
    assert gateway.report(4, [*student(1.0), *teacher(10.0)], frames=120, version=8) == []
    assert gateway.report(2, student(3.0), frames=150, version=9) == []
    assert gateway.numbers == NONE, "it is not over"
    (found,) = gateway.report(0, [*student(5.0), *teacher(20.0)], frames=200, version=10)
    assert found == Evaluation(
        time=5.0,
        frames=100,
        versions=(7, 10),
        returns=(1.0, 3.0, 5.0),
        mean=3.0,
        expert_returns=(10.0, 20.0),
        expert_mean=15.0,
        partial=False,
    )
    assert gateway.numbers == {
        "eval_return_mean": 3.0,
        "eval_episodes": 3.0,
        "eval_frames": 100.0,
        "eval_return_best": 3.0,
        "expert_return_mean": 15.0,
        "expert_episodes": 2.0,
    }
    assert gateway.report(0, [], 300) == []


def test_evaluation_closes_only_after_all_gateways_report() -> None:
    """One has told that its games are gone; what the other one told is still on its way."""
    evaluations = Evaluations()
    evaluations.report(1, [], 10, 1, 0.0)
    assert not evaluations.over
    assert evaluations.report(0, student(1.0), 10, 1, 1.0) == []
    assert evaluations.over
    evaluations.report(2, [], 10, 1, 1.0)
    assert not evaluations.over
    evaluations.report(0, student(3.0), 10, 1, 2.0)
    assert evaluations.over
    (found,) = evaluations.close(3.0)
    assert (found.returns, found.time) == ((1.0, 3.0), 3.0)
    assert not evaluations.over


def test_training_episodes_are_ignored() -> None:
    gateway = Gateway()
    training = [FinishedEpisode("train", 100.0, 10)]
    assert gateway.report(0, training) == []
    gateway.report(1, training)
    (found,) = gateway.report(0, [*training, *student(2.0)])
    assert found.returns == (2.0,)


def test_game_joined_and_left_between_reports_counts() -> None:
    (found,) = Gateway().report(0, student(4.0, 6.0), frames=30, version=2)
    assert (found.mean, found.frames, found.versions) == (5.0, 30, (2, 2))


def test_games_without_episode_yield_no_evaluation() -> None:
    gateway = Gateway()
    gateway.report(3, [])
    assert gateway.report(0, []) == []
    assert gateway.numbers == NONE


def test_expert_mean_carries_over_to_later_evaluations() -> None:
    gateway = Gateway()
    gateway.evaluate(*student(0.0), *teacher(10.0, 30.0))
    later = gateway.evaluate(*student(5.0), frames=100)
    assert (later.mean, later.expert_returns, later.expert_mean) == (5.0, (), 20.0)
    assert gateway.numbers["expert_return_mean"] == 20.0
    assert gateway.numbers["expert_episodes"] == 2.0


def test_expert_only_evaluation_has_no_network_mean() -> None:
    gateway = Gateway()
    found = gateway.evaluate(*teacher(7.0))
    assert (found.returns, found.mean, found.expert_mean) == ((), None, 7.0)
    assert not found.partial
    assert gateway.numbers == {**NONE, "expert_return_mean": 7.0, "expert_episodes": 1.0}


def test_first_latest_and_best_means_are_tracked() -> None:
    gateway = Gateway()
    for frames, mean in enumerate((-50.0, 20.0, 90.0, 60.0)):
        gateway.evaluate(*student(mean), frames=frames)
    found = gateway.evaluations
    assert (found.first, found.mean, found.best, found.frames) == (-50.0, 60.0, 90.0, 3.0)


def test_games_never_leaving_yield_evaluation_per_100_episodes() -> None:
    gateway = Gateway()
    gateway.report(1, [], frames=1, version=1)
    assert gateway.report(1, student(*[1.0] * MOST), frames=500, version=5) == []
    (first,) = gateway.report(1, student(2.0), frames=600, version=6)
    assert (len(first.returns), first.mean, first.frames) == (MOST, 1.0, 1)
    (second, third) = gateway.report(1, student(*[2.0] * MOST, *[3.0] * MOST), 900, 9)
    assert [len(each.returns) for each in (second, third)] == [MOST, MOST]
    assert (second.mean, second.frames, second.versions) == (2.0, 600, (6, 9))
    assert third.frames == 900


def test_exactly_100_episodes_per_role_yield_one_evaluation() -> None:
    found = Gateway().evaluate(*student(*[1.0] * MOST), *teacher(*[2.0] * MOST))
    assert (len(found.returns), len(found.expert_returns)) == (MOST, MOST)
    assert (found.mean, found.expert_mean) == (1.0, 2.0)


def test_full_expert_evaluation_keeps_network_episodes_pending() -> None:
    gateway = Gateway()
    gateway.report(2, [])
    (found,) = gateway.report(2, [*student(5.0), *teacher(*[2.0] * (MOST + 1))])
    assert (found.mean, found.expert_mean) == (None, 2.0)
    (last,) = gateway.report(0, student(7.0))
    assert (last.returns, last.expert_returns) == ((5.0, 7.0), (2.0,))


def test_partial_evaluation_does_not_change_metrics() -> None:
    gateway = Gateway()
    gateway.evaluate(*student(*[1.0] * 20), *teacher(*[9.0] * 20))
    partial = gateway.evaluate(*student(*[300.0] * 9), *teacher(*[-300.0] * 9), frames=50)
    assert partial.partial
    assert partial.mean == 300.0
    assert gateway.numbers["eval_return_mean"] == gateway.numbers["eval_return_best"] == 1.0
    assert gateway.numbers["eval_episodes"] == 20.0
    assert gateway.numbers["expert_return_mean"] == 9.0
    half = gateway.evaluate(*student(*[5.0] * 10), frames=60)
    assert not half.partial
    assert gateway.numbers["eval_return_mean"] == 5.0


def test_evaluations_restored_from_lines_keep_metrics() -> None:
    gateway = Gateway()
    lines = [
        gateway.evaluate(*student(*[-10.0] * 20), *teacher(*[50.0] * 20)),
        gateway.evaluate(*student(*[80.0] * 20), frames=10),
        gateway.evaluate(*student(500.0), frames=15),
        gateway.evaluate(*student(*[40.0] * 20), frames=20),
    ]
    written = [json.dumps(each.line()) for each in lines]
    read = [msgspec.json.decode(line, type=Evaluation) for line in written]
    assert read == lines
    again = Gateway(Evaluations(read))
    assert again.numbers == gateway.numbers
    assert again.evaluations.first == -10.0
    assert again.evaluate(*student(*[900.0] * 9)).partial


@pytest.mark.parametrize(
    ("episodes", "text"),
    [
        ([*student(1.0, 2.0), *teacher(9.0)],
         "network 1.5 over 2 episodes, expert 9.0 over 1 episodes"),
        (student(1.0), "network 1.0 over 1 episodes"),
        (teacher(9.0), "expert 9.0 over 1 episodes"),
    ],
)  # fmt: skip
def test_evaluation_text_reports_means_and_episode_counts(
    episodes: list[FinishedEpisode], text: str
) -> None:
    assert Gateway().evaluate(*episodes, frames=30).text() == f"evaluation at frame 30: {text}"
