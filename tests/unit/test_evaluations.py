from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from server.ipc.messages import LEFT, LIMIT, EvaluationGame, FinishedEpisode
from server.run.evaluation import Evaluation
from server.run.evaluations import LINGER_S, MOST, RETURN_S, Evaluations, Moment
from tests.support.cases import for_each

NONE: dict[str, Any] = {
    "eval_return_mean": None,
    "eval_episodes": None,
    "eval_frames": None,
    "eval_return_best": None,
    "expert_return_mean": None,
    "expert_episodes": None,
}


def ended(session: int, *returns: float, role: str = "eval", **more: Any) -> list[FinishedEpisode]:
    return [FinishedEpisode(role, each, 10, session, **more) for each in returns]


class Gateways:
    """Reports of gateways whose games come and go, with a clock that says which report it is."""

    def __init__(self, evaluations: Evaluations | None = None) -> None:
        self.evaluations = evaluations or Evaluations()
        self.now = 0.0
        self.games: dict[int, dict[int, EvaluationGame]] = {}
        self.sessions = 0
        self.frames, self.version = 0, 1

    def come(
        self, episodes: int | None = None, role: str = "eval", *, slots: int = 1, gateway: int = 0
    ) -> int:
        """A game comes, and its gateway tells at once; its session."""
        self.sessions += 1
        game = EvaluationGame(self.sessions, role, slots, episodes)
        self.games.setdefault(gateway, {})[self.sessions] = game
        assert self.report(gateway=gateway) == []
        return self.sessions

    def report(self, *episodes: FinishedEpisode, gateway: int = 0) -> list[Evaluation]:
        self.now += 1
        games = list(self.games.get(gateway, {}).values())
        moment = Moment(self.now, self.now, self.frames, self.version)
        found = self.evaluations.report(gateway, games, episodes, moment)
        return found + self.closed()

    def go(self, session: int, *episodes: FinishedEpisode, gateway: int = 0) -> list[Evaluation]:
        del self.games[gateway][session]
        return self.report(*episodes, gateway=gateway)

    def later(self, seconds: float) -> list[Evaluation]:
        self.now += seconds
        return self.closed()

    def closed(self) -> list[Evaluation]:
        over = self.evaluations.over(self.now)
        return self.evaluations.close(self.now) if over else []

    def evaluate(
        self, *returns: float, teacher: tuple[float, ...] = (), frames: int = 0
    ) -> Evaluation:
        """A whole evaluation, announced."""
        self.frames = frames
        games = [(self.come(len(returns)), "eval", returns)] if returns else []
        if teacher:
            games.append((self.come(len(teacher), "eval_expert"), "eval_expert", teacher))
        found: list[Evaluation] = []
        for session, role, each in games:
            assert found == []
            found = self.go(session, *ended(session, *each, role=role))
        (one,) = found
        return one

    @property
    def numbers(self) -> dict[str, Any]:
        """NaN as None, for NaN equals nothing."""
        return {
            name: None if math.isnan(value) else value
            for name, value in self.evaluations.numbers().items()
        }


# What an evaluation is.


def test_evaluation_spans_first_game_joined_to_last_game_left() -> None:
    gateways = Gateways()
    gateways.frames = 50
    assert gateways.report() == []
    assert gateways.numbers == NONE
    gateways.frames, gateways.version = 100, 7
    a = gateways.come(2)
    b = gateways.come(1, slots=4)
    t = gateways.come(2, "eval_expert")
    gateways.frames, gateways.version = 150, 9
    assert gateways.report(*ended(a, 1.0), *ended(t, 10.0, role="eval_expert")) == []
    assert gateways.go(a, *ended(a, 3.0)) == []
    assert gateways.go(t, *ended(t, 20.0, role="eval_expert", filled=5)) == []
    assert gateways.numbers == NONE, "it is not over"
    gateways.version = 10
    (found,) = gateways.go(b, *ended(b, 5.0))
    assert found == Evaluation(
        time=gateways.now,
        frames=100,
        versions=(7, 10),
        returns=(1.0, 3.0, 5.0),
        mean=3.0,
        expert_returns=(10.0, 20.0),
        expert_mean=15.0,
        partial=False,
        expert_filled=0.25,
    )
    assert gateways.numbers == {
        "eval_return_mean": 3.0,
        "eval_episodes": 3.0,
        "eval_frames": 100.0,
        "eval_return_best": 3.0,
        "expert_return_mean": 15.0,
        "expert_episodes": 2.0,
    }
    assert gateways.report() == []


def test_game_of_another_gateway_that_reports_first_keeps_it_open() -> None:
    gateways = Gateways()
    evaluations = gateways.evaluations
    a = gateways.come()
    gone = Moment(2.0, 2.0, 0, 1)
    evaluations.report(0, [], ended(a, 1.0), gone)
    assert evaluations.over(2.0)
    evaluations.report(1, [EvaluationGame(99, "eval", 1, None)], [], gone)
    assert not evaluations.over(2.0)
    evaluations.report(1, [], ended(99, 3.0), gone)
    (found,) = evaluations.close(3.0)
    assert (found.returns, found.partial) == ((1.0, 3.0), False)


def test_training_episodes_are_ignored() -> None:
    gateways = Gateways()
    training = ended(77, 100.0, role="train")
    assert gateways.report(*training) == []
    a = gateways.come()
    (found,) = gateways.go(a, *training, *ended(a, 2.0))
    assert found.returns == (2.0,)


def test_game_unknown_until_it_has_left_counts() -> None:
    gateways = Gateways()
    gateways.frames, gateways.version = 30, 2
    (found,) = gateways.report(*ended(5, 4.0, 6.0))
    assert (found.mean, found.frames, found.versions, found.partial) == (5.0, 30, (2, 2), False)


def test_games_without_episode_yield_no_evaluation() -> None:
    gateways = Gateways()
    assert gateways.go(gateways.come(slots=3)) == []
    assert not gateways.evaluations.under_way
    assert gateways.numbers == NONE


def test_expert_mean_carries_over_to_later_evaluations() -> None:
    gateways = Gateways()
    gateways.evaluate(0.0, teacher=(10.0, 30.0))
    later = gateways.evaluate(5.0, frames=100)
    assert (later.mean, later.expert_returns, later.expert_mean) == (5.0, (), 20.0)
    assert gateways.numbers["expert_return_mean"] == 20.0
    assert gateways.numbers["expert_episodes"] == 2.0


def test_expert_only_evaluation_has_no_network_mean() -> None:
    gateways = Gateways()
    found = gateways.evaluate(teacher=(7.0,))
    assert (found.returns, found.mean, found.expert_mean) == ((), None, 7.0)
    assert not found.partial
    assert gateways.numbers == {**NONE, "expert_return_mean": 7.0, "expert_episodes": 1.0}


def test_first_latest_and_best_means_are_tracked() -> None:
    gateways = Gateways()
    for frames, mean in enumerate((-50.0, 20.0, 90.0, 60.0)):
        gateways.evaluate(mean, frames=frames)
    found = gateways.evaluations
    assert (found.first, found.mean, found.best, found.frames) == (-50.0, 60.0, 90.0, 3.0)


def test_unannounced_games_never_leaving_yield_evaluation_per_100_episodes() -> None:
    gateways = Gateways()
    gateways.frames = 1
    a = gateways.come()
    gateways.frames, gateways.version = 500, 5
    assert gateways.report(*ended(a, *[1.0] * MOST)) == []
    gateways.frames, gateways.version = 600, 6
    (first,) = gateways.report(*ended(a, 2.0))
    assert (len(first.returns), first.mean, first.frames) == (MOST, 1.0, 1)
    gateways.frames, gateways.version = 900, 9
    (second, third) = gateways.report(*ended(a, *[2.0] * MOST, *[3.0] * MOST))
    assert [len(each.returns) for each in (second, third)] == [MOST, MOST]
    assert (second.mean, second.frames, second.versions) == (2.0, 600, (6, 9))
    assert third.frames == 900


def test_full_expert_evaluation_keeps_network_episodes_pending() -> None:
    gateways = Gateways()
    a, t = gateways.come(), gateways.come(None, "eval_expert")
    experts = ended(t, *[2.0] * (MOST + 1), role="eval_expert")
    (found,) = gateways.report(*ended(a, 5.0), *experts)
    assert (found.mean, found.expert_mean) == (None, 2.0)
    assert gateways.go(t) == []
    (last,) = gateways.go(a, *ended(a, 7.0))
    assert (last.returns, last.expert_returns) == ((5.0, 7.0), (2.0,))


# What is complete.


def test_smaller_evaluation_that_is_announced_is_complete() -> None:
    gateways = Gateways()
    for _ in range(2):
        assert not gateways.evaluate(*[100.0] * 20).partial
    found = gateways.evaluate(*[293.8] * 5)
    assert (found.partial, found.why) == (False, "")
    assert gateways.numbers["eval_return_best"] == pytest.approx(293.8)
    assert gateways.numbers["eval_episodes"] == 5


def test_smaller_evaluation_of_games_that_announce_nothing_is_complete() -> None:
    gateways = Gateways()
    gateways.evaluate(*[100.0] * 20)
    a = gateways.come()
    (found,) = gateways.go(a, *ended(a, 300.0))
    assert not found.partial
    assert gateways.numbers["eval_return_best"] == 300.0


def test_game_that_leaves_before_it_has_played_what_it_announced_makes_it_partial() -> None:
    gateways = Gateways()
    gateways.evaluate(*[1.0] * 20, teacher=(9.0,) * 20)
    a, t = gateways.come(20), gateways.come(20, "eval_expert")
    assert gateways.go(a, *ended(a, *[300.0] * 19), *ended(a, 7.0, cut=LEFT)) == []
    assert gateways.go(t, *ended(t, -300.0, role="eval_expert")) == []
    assert gateways.evaluations.under_way, "they may come back"
    (found,) = gateways.later(RETURN_S)
    assert (found.partial, found.expert_partial) == (True, True)
    assert found.why == "1 of 20 announced episodes not played"
    assert found.expert_why == "19 of 20 announced episodes not played"
    assert (found.mean, found.cut, len(found.expert_returns)) == (300.0, (7.0,), 1)
    assert gateways.numbers["eval_return_best"] == 1.0
    assert gateways.numbers["expert_return_mean"] == 9.0
    assert "nothing goes by it: 1 of 20 announced episodes not played; cut at 7.0" in found.text()


def test_game_that_leaves_with_bye_is_not_waited_for() -> None:
    gateways = Gateways()
    a = gateways.come(5)
    gateways.games[0][a] = replace(gateways.games[0][a], bye=True)
    assert gateways.report(*ended(a, 1.0)) == []
    (found,) = gateways.go(a, *ended(a, 2.0))
    assert (found.returns, found.why) == ((1.0, 2.0), "3 of 5 announced episodes not played")


def test_game_that_comes_back_completes_what_it_announced() -> None:
    gateways = Gateways()
    a = gateways.come(5)
    assert gateways.go(a, *ended(a, 1.0, 2.0), *ended(a, 0.5, cut=LEFT)) == []
    assert gateways.later(RETURN_S / 2) == []
    b = gateways.come(3)
    (found,) = gateways.go(b, *ended(b, 3.0, 4.0, 5.0))
    assert (found.partial, found.returns, found.cut) == (False, (1.0, 2.0, 3.0, 4.0, 5.0), (0.5,))


def test_episode_cut_by_the_limit_makes_it_partial_with_its_return() -> None:
    gateways = Gateways()
    a = gateways.come(3)
    assert gateways.go(a, *ended(a, 1.0), *ended(a, -600.0, cut=LIMIT)) == []
    b = gateways.come(1)
    (found,) = gateways.go(b, *ended(b, 2.0))
    assert (found.partial, found.why) == (True, "1 episodes cut by the limit")
    assert (found.returns, found.cut) == ((1.0, 2.0), (-600.0,))
    assert gateways.numbers == NONE
    assert found.text() == (
        "evaluation at frame 0: network 1.5 over 2 episodes (not complete, so nothing goes by it: "
        "1 episodes cut by the limit; cut at -600.0)"
    )


def test_evaluation_whose_every_episode_is_cut_is_told() -> None:
    gateways = Gateways()
    a = gateways.come()
    (found,) = gateways.go(a, *ended(a, -1.0, cut=LIMIT))
    assert (found.returns, found.mean, found.cut, found.partial) == ((), None, (-1.0,), True)
    assert "network without a mean over 0 episodes" in found.text()
    cut_expert = Gateways()
    t = cut_expert.come(None, "eval_expert")
    (found,) = cut_expert.go(t, *ended(t, -1.0, role="eval_expert", cut=LIMIT))
    assert (found.partial, found.expert_partial, found.expert_mean) == (False, True, None)


@pytest.mark.parametrize(
    ("slots", "midway", "partial"), [(1, 1, True), (4, 4, True), (4, 3, False)]
)
def test_unannounced_game_that_leaves_in_the_middle_of_each_episode_makes_it_partial(
    slots: int, midway: int, partial: bool
) -> None:
    gateways = Gateways()
    a = gateways.come(slots=slots)
    gateways.report(*ended(a, 5.0))
    (found,) = gateways.go(a, *ended(a, *[1.0] * midway, cut=LEFT))
    assert (found.partial, found.returns, len(found.cut)) == (partial, (5.0,), midway)
    assert (found.why == "1 games left in the middle of an episode") is partial


def test_episodes_beyond_those_announced_are_left_out() -> None:
    gateways = Gateways()
    a = gateways.come(3, slots=8)
    episodes = [*ended(a, 1.0, 2.0, 3.0, 99.0, 98.0), *ended(a, 97.0, cut=LEFT)]
    (found,) = gateways.go(a, *episodes)
    assert (found.returns, found.partial, found.cut) == ((1.0, 2.0, 3.0), False, ())
    assert found.left_out == 2
    assert found.text().endswith("over 3 episodes, 2 episodes more than announced left out")


def test_games_that_stay_behind_what_they_announced_do_not_keep_it_open() -> None:
    gateways = Gateways()
    a = gateways.come(2)
    assert gateways.report(*ended(a, 1.0, 2.0)) == []
    assert gateways.later(LINGER_S / 2) == []
    gateways.report(*ended(a, 50.0))
    (found,) = gateways.later(LINGER_S / 2)
    assert (found.returns, found.partial) == ((1.0, 2.0), False)
    assert not gateways.evaluations.under_way
    assert gateways.report() == []
    # What it plays from now on, it did not announce.
    (more,) = gateways.go(a, *ended(a, 60.0))
    assert (more.returns, more.partial) == ((60.0,), False)


def test_gateway_that_dies_leaves_what_its_games_had_announced() -> None:
    gateways = Gateways()
    a, _ = gateways.come(2), gateways.come(gateway=1)
    gateways.report(*ended(a, 1.0))
    gateways.evaluations.lost(0, gateways.now)
    gateways.games[0].clear()
    gateways.evaluations.lost(1, gateways.now)
    gateways.games[1].clear()
    (found,) = gateways.later(RETURN_S)
    assert found.why == (
        "1 of 2 announced episodes not played, 1 games left in the middle of an episode"
    )


def test_server_that_stops_tells_what_is_there() -> None:
    gateways = Gateways()
    a = gateways.come(3)
    gateways.report(*ended(a, 1.0))
    (found,) = gateways.evaluations.close(9.0)
    assert (found.returns, found.why) == ((1.0,), "2 of 3 announced episodes not played")


def test_progress_says_how_far_it_is_and_for_whom_it_waits() -> None:
    gateways = Gateways()
    a, b = gateways.come(3), gateways.come(2)
    t = gateways.come(1, "eval_expert")
    gateways.games[0][b] = replace(gateways.games[0][b], frames=4000, seconds=12.4)
    gateways.report(*ended(a, 1.0, 2.0, 3.0), *ended(t, 4.0, role="eval_expert", cut=LIMIT))
    assert gateways.evaluations.progress({b: "10.0.0.1:5"}) == (
        "evaluation: 3 of 5 episodes of the network, 0 of 1 episodes (1 cut) of the expert; it "
        "waits for session 2 (10.0.0.1:5), 4,000 frames and 12 s in its episode"
    )
    gateways.report(*ended(b, 1.0, 2.0))
    assert "waits" not in gateways.evaluations.progress({})


# Any order of events.


@for_each(range(200))
def test_random_games_are_partial_exactly_if_something_is_missing(seed: int) -> None:
    """Games come, play, go, come back and die in any order, on two gateways: each episode is in one
    evaluation, and it is partial exactly if something that was announced or begun is missing."""
    rng = np.random.default_rng(seed)
    gateways = Gateways()
    found: list[Evaluation] = []
    played: list[float] = []
    there: dict[int, list[int]] = {}
    """Session: gateway, episodes left; -1 where nothing was announced."""
    unplayed = 0
    faults = False
    for _ in range(rng.integers(5, 60)):
        match rng.choice(["come", "play", "go", "die", "cut"], p=[0.25, 0.55, 0.14, 0.04, 0.02]):
            case "come":
                gateway, n = int(rng.integers(2)), int(rng.integers(0, 6))
                session = gateways.come(n or None, gateway=gateway)
                there[session] = [gateway, n or -1]
                unplayed -= min(unplayed, n)
            case "play" if there:
                session = int(rng.choice(list(there)))
                if there[session][1] == 0:
                    continue
                played.append(float(len(played)))
                there[session][1] -= there[session][1] > 0
                episodes = ended(session, played[-1])
                assert gateways.report(*episodes, gateway=there[session][0]) == []
            case "go" | "die" | "cut" as how if there:
                session = int(rng.choice(list(there)))
                gateway, left = there.pop(session)
                last: list[FinishedEpisode] = []
                if how == "die" and left:
                    last = ended(session, -1.0, cut=LEFT)
                    faults |= left < 0
                elif how == "cut" and left:
                    last = ended(session, -1.0, cut=LIMIT)
                    left, faults = left - 1, True
                unplayed += max(0, left)
                over = gateways.go(session, *last, gateway=gateway)
                if not there and unplayed:
                    assert over == []
                    if rng.random() < 0.5:
                        continue  # somebody may take it on
                    over = gateways.later(RETURN_S)
                if there:
                    assert over == []
                    continue
                for each in over:
                    assert each.partial is bool(faults or unplayed)
                found += over
                unplayed, faults = 0, False
    for session, (gateway, _) in list(there.items()):
        found += gateways.go(session, gateway=gateway)
    found += gateways.later(LINGER_S)
    assert not gateways.evaluations.under_way
    assert [each for one in found for each in one.returns] == played
    means = [one.mean for one in found if one.mean is not None and not one.partial]
    assert gateways.numbers["eval_return_best"] == (max(means) if means else None)


# Lines.


def test_evaluations_restored_from_lines_keep_metrics() -> None:
    gateways = Gateways()
    lines = [
        gateways.evaluate(*[-10.0] * 20, teacher=(50.0,) * 20),
        gateways.evaluate(*[80.0] * 20, frames=10),
        gateways.evaluate(*[40.0] * 20, frames=20),
    ]
    a = gateways.come(2)
    gateways.go(a, *ended(a, 500.0))
    lines += gateways.later(RETURN_S)
    written = [json.dumps(each.line()) for each in lines]
    read = [msgspec.json.decode(line, type=Evaluation) for line in written]
    assert read == lines
    again = Gateways(Evaluations(read))
    assert again.numbers == gateways.numbers
    assert again.evaluations.first == -10.0


def test_lines_of_an_older_run_are_read() -> None:
    """They say `partial` of the network alone; a broken-off expert's mean is that of before."""
    older = {"time": 1.0, "frames": 5, "versions": [1, 2]}
    lines = [
        {**older, "returns": [1.0, 3.0], "mean": 2.0, "expert_returns": [9.0, 9.0],
         "expert_mean": 9.0, "partial": False},
        {**older, "returns": [900.0], "mean": 900.0, "expert_returns": [700.0],
         "expert_mean": 9.0, "partial": True},
    ]  # fmt: skip
    read = [msgspec.json.decode(json.dumps(line), type=Evaluation) for line in lines]
    gateways = Gateways(Evaluations(read))
    assert gateways.numbers["eval_return_best"] == 2.0
    assert gateways.numbers["expert_return_mean"] == 9.0
    assert gateways.numbers["expert_episodes"] == 2.0


@pytest.mark.parametrize(
    ("student", "teacher", "text"),
    [
        ((1.0, 2.0), (9.0,), "network 1.5 over 2 episodes, expert 9.0 over 1 episodes"),
        ((1.0,), (), "network 1.0 over 1 episodes"),
        ((), (9.0,), "expert 9.0 over 1 episodes"),
    ],
)
def test_evaluation_text_reports_means_and_episode_counts(
    student: tuple[float, ...], teacher: tuple[float, ...], text: str
) -> None:
    found = Gateways().evaluate(*student, teacher=teacher, frames=30)
    assert found.text() == f"evaluation at frame 30: {text}"


def test_evaluation_text_reports_filled_frames_and_earlier_expert() -> None:
    gateways = Gateways()
    t = gateways.come(1, "eval_expert")
    (found,) = gateways.go(t, *ended(t, 9.0, role="eval_expert", filled=4))
    assert found.text().endswith("expert 9.0 over 1 episodes, 40.0% of its frames filled")
    assert gateways.evaluate(1.0).text().endswith("network 1.0 over 1 episodes, expert 9.0")
