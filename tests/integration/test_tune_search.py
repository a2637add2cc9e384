"""The search: what is drawn, what is stopped, what is kept, and when it ends."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from config.load import ConfigError
from config.options import parse
from config.passing import InUse
from lab.study.own import parse_variants
from lab.tune import command
from lab.tune.outcome import BEST, FAILED, FINISHED, STOPPED, TRIALS
from lab.tune.plan import Trial
from lab.tune.search import FREE_TRIALS, Search, TuneFailed
from server.cli import parser_for
from tests.support.tune import EVERY, MadeUpWorkers, found, made_up, plan

GAMMA = "learner.gamma=0.5..0.9"


def by_gamma(trial: Trial) -> Sequence[float]:
    """The larger gamma is, the better."""
    return [100 * trial.configs[0].learner.gamma] * 4


def test_first_trial_has_the_settings_as_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up(monkeypatch, by_gamma)
    words = (GAMMA, "learner.hidden=[8],[16,8]", "imitation.expert=0.5..2")
    given = plan(*words, learner__gamma=0.6, learner__hidden=(16, 8))
    first, *others = found(tmp_path / "a", given, 3)
    assert first.drawn == {"learner.gamma": 0.6, "learner.hidden": [16, 8], "imitation.expert": 1.0}
    assert all(each.drawn["learner.gamma"] != 0.6 for each in others)
    assert (first.score, first.best, first.frames, first.state) == (60.0, 60.0, 400, FINISHED)
    # Outside of what is searched: nothing is bent to fit, and all values are drawn.
    (first,) = found(tmp_path / "b", plan(GAMMA, learner__gamma=0.99), 1)
    assert 0.5 <= first.drawn["learner.gamma"] <= 0.9


def test_trial_that_is_worse_than_most_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not among the first ones, not in the first quarter, and not at its end."""
    curves = {
        FREE_TRIALS: [10] * 8,
        FREE_TRIALS + 1: [0, *[60] * 6, 95],  # worse in the first quarter alone
        FREE_TRIALS + 2: [10, 10, *[60] * 6],
        FREE_TRIALS + 3: [50] * 8,  # worse at its end alone
    }
    made = made_up(monkeypatch, lambda trial: curves.get(trial.number, [50] * 7 + [90]))
    results = found(tmp_path, plan(GAMMA, frames=8 * EVERY), FREE_TRIALS + 4)
    (pool,) = made
    first, second = FREE_TRIALS, FREE_TRIALS + 2
    assert pool.stopped == [first, second]
    assert [each.number for each in results if each.state == STOPPED] == [first, second]
    assert results[first].frames == results[second].frames == 2 * EVERY


def test_search_goes_on_with_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, by_gamma)
    what = plan(GAMMA)
    before = found(tmp_path, what, 3)
    after = found(tmp_path, what, 5, workers=2)
    assert after[:3] == before
    assert len({each.drawn["learner.gamma"] for each in after}) == 5
    assert found(tmp_path, what, 5) == after  # nothing is left to do


def test_trials_in_progress_are_played_again_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []

    def curve(trial: Trial) -> Sequence[float]:
        begun.append(trial.configs[0].learner.gamma)
        return by_gamma(trial)

    made_up(monkeypatch, curve)
    wait, calls = MadeUpWorkers.wait, [0]

    def interrupted(pool: MadeUpWorkers) -> object:
        calls[0] += 1
        if calls[0] == 7:  # trial 0 and 1 have five pieces of news each
            raise KeyboardInterrupt
        return wait(pool)

    monkeypatch.setattr(MadeUpWorkers, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        found(tmp_path, plan(GAMMA), 4, workers=2)
    assert len(begun) == 4
    with Search(tmp_path, plan(GAMMA)) as going:
        there = going.results
    assert [each.drawn["learner.gamma"] for each in there] == begun[:2]
    after = found(tmp_path, plan(GAMMA), 4)
    assert after[:2] == there
    assert begun[4:] == begun[2:4]  # the very same values
    assert [each.state for each in after] == [FINISHED] * 4


def test_folder_of_another_search_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up(monkeypatch, by_gamma)
    found(tmp_path, plan(GAMMA), 1)
    for other, said in (
        (plan(GAMMA, frames=500), "--frames was 400 there, and is 500 now"),
        (plan("learner.gamma=0.5..0.8"), r"--search was .*0\.9.* there, and is .*0\.8"),
        (plan(GAMMA, replay__prioritized=True), r"settings was .* there, and is .*prioritized"),
    ):
        with pytest.raises(ConfigError, match=said):
            Search(tmp_path, other)
    # What learning does not depend on may change.
    assert len(found(tmp_path, plan(GAMMA, server__port=7001), 1)) == 1


def test_second_search_in_a_folder_is_refused(tmp_path: Path) -> None:
    with Search(tmp_path, plan(GAMMA)), pytest.raises(InUse, match="another search is at work"):
        Search(tmp_path, plan(GAMMA))


def test_failed_trial_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def curve(trial: Trial) -> Sequence[float]:
        if trial.number == 1:
            raise ValueError("out of luck")
        return [float("nan")] * 4 if trial.number == 2 else by_gamma(trial)

    made_up(monkeypatch, curve)
    results = found(tmp_path, plan(GAMMA), 4)
    assert [each.state for each in results] == [FINISHED, FAILED, FAILED, FINISHED]
    assert results[1].error == "out of luck"
    assert "a number, got nan" in results[2].error
    again = found(tmp_path, plan(GAMMA), 4)
    assert repr(again) == repr(results)  # a failed one is not played again


def test_search_ends_when_all_trials_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def curve(trial: Trial) -> Sequence[float]:
        raise ValueError(f"no luck with {trial.number}")

    made_up(monkeypatch, curve)
    with pytest.raises(TuneFailed, match="no luck with 2"):
        found(tmp_path, plan(GAMMA), 30)


def test_values_that_do_not_go_together_fail_their_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up(monkeypatch, by_gamma)
    # Each end goes with the other's own value, but not all go with each other.
    words = ("advantage.weight_min=0.5..90", "advantage.weight_max=1..95")
    results = found(tmp_path, plan(*words, advantage__weight_min=0.5), 8)
    wrong = [each for each in results if each.state == FAILED]
    assert 0 < len(wrong) < 8
    assert "the smallest weight must not exceed the largest" in wrong[0].error


# The command.


def run(folder: Path, *more: str) -> int:
    words = [
        "--env", "CartPole-v1", "--frames", "400", "--eval-every", "100", "--out", str(folder),
        "--search", GAMMA, "--workers", "1", *more,
    ]  # fmt: skip
    return command.main(parse(parser_for("tune"), words))


def test_interrupted_command_writes_what_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def curve(trial: Trial) -> Sequence[float]:
        if trial.number == 2:
            raise KeyboardInterrupt
        return by_gamma(trial)

    made_up(monkeypatch, curve)
    assert run(tmp_path, "--trials", "4") == 130
    said = capsys.readouterr()
    assert "the same command goes on" in said.err
    assert "2/4  trial 1: score" in said.out
    assert (tmp_path / TRIALS).read_text().count(FINISHED) == 2
    assert "gamma = " in (tmp_path / BEST).read_text()
    # The study that it names can be run.
    (line,) = (line for line in said.out.splitlines() if "understudy study" in line)
    words = shlex.split(line.partition("understudy study ")[2])
    args = parse(parser_for("study"), words)
    assert (args.env, args.frames, args.seeds) == ("CartPole-v1", 400, 5)
    found_settings = parse_variants(args.variant)["found"][0]
    assert f"gamma = {found_settings['learner.gamma']}\n" in (tmp_path / BEST).read_text()


def test_command_says_what_went_wrong_with_all_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def curve(trial: Trial) -> Sequence[float]:
        raise ValueError(f"trial {trial.number} has ended badly")

    made_up(monkeypatch, curve)
    assert run(tmp_path) == 1
    said = capsys.readouterr().err
    assert "3 trials failed one after the other: trial 2 has ended badly" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--env", "NoSuchGame-v1"], "that connects over TCP cannot be played by this command"),
        (["--env", "no_such_module:Game-v1"], "name one as ID or module:ID"),
        (["--expert", "mygame"], "--expert: expert 'mygame': expected module:function"),
        (["--weaken", "0.3"], "expected an expert to weaken, and CartPole-v1 has none"),
    ],
)
def test_game_that_cannot_be_played_is_refused_first(
    tmp_path: Path, words: list[str], said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        run(tmp_path / "x", *words)
    assert said in str(error.value)
    assert not (tmp_path / "x").exists()


def test_missing_extra_is_named_with_its_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "lab.tune.search")
    monkeypatch.delattr("lab.tune.search")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"Optuna; install understudy with the extra tune.*pip"):
        run(tmp_path)
