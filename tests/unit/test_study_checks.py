"""Verdicts follow from the results: they turn when the results do."""

from __future__ import annotations

import math

import pytest

from lab.study.checks import (
    Better,
    Check,
    Ends,
    NotWorse,
    NotWorseAnywhere,
    Passes,
    Trend,
    Verdict,
    change,
)
from lab.study.results import Results
from tests.support.fake_results import results

SLOW = [0.0, 100.0, 190.0, 210.0]  # passes 200 at 4,000
FAST = [0.0, 210.0, 150.0, 220.0]  # at 2,000
NEVER = [0.0, 10.0, 20.0, 30.0]


def judge(check: Check, *a: list[float], expert: float = math.nan) -> Verdict:
    return check.judge(results(a, expert=expert))


def test_passes_judges_interquartile_mean() -> None:
    check = Passes("land", "a", 200, by=3000)
    good = judge(check, FAST, FAST, FAST, SLOW)
    assert good.met
    assert good.word == "met"
    assert good.measured == "2,000 [2,000, 4,000]"
    assert "at most 3,000 in the interquartile mean" in good.target
    bad = judge(check, SLOW, SLOW, SLOW, FAST)
    assert bad.met is False
    assert bad.word == "NOT met"
    never = judge(check, NEVER, NEVER, NEVER, FAST)
    assert never.met is False
    assert never.measured.startswith("never")


def test_passes_every_seed_fails_if_one_seed_is_late() -> None:
    check = Passes("land", "a", 200, by=4000, every_seed=True)
    assert judge(check, FAST, SLOW, SLOW, FAST).met
    bad = judge(check, FAST, FAST, FAST, NEVER)
    assert bad.met is False
    assert bad.measured.startswith("2,000, 2,000, 2,000, never (")
    assert judge(Passes("land", "a", 200, by=3000, every_seed=True), FAST, SLOW).met is False


def test_passes_with_return_equal_to_threshold_is_not_met() -> None:
    assert judge(Passes("land", "a", 210, by=9000), SLOW, SLOW).met is False
    assert judge(Passes("land", "a", 209.9, by=9000), SLOW, SLOW).met


def test_returns_use_only_first_episodes_of_last_evaluation() -> None:
    """The last evaluation has more episodes: those of the others are among them."""
    found = results([FAST])
    assert found.runs["land", "a"][0].returns(1) == [-1.0, 209.0, 149.0, 219.0]


def test_passes_expert_return_within_seconds() -> None:
    check = Passes("land", "a", None, by=25, unit="seconds")
    assert judge(check, FAST, FAST, expert=200).met  # after 20 seconds
    assert (
        "seconds until the evaluation return first exceeds the expert's 200.0"
        in check.judge(results([FAST], expert=200)).target
    )
    assert judge(check, SLOW, SLOW, expert=200).met is False  # after 40
    assert judge(check, FAST, FAST).met is None
    assert judge(check, FAST, FAST).measured == "the expert was not measured"


def test_passes_compares_with_less_than_the_expert_of_another_scene() -> None:
    check = Passes("land", "a", None, by=4000, of="sea", less=10)
    assert check.scenes == ("land", "sea")
    found = results([FAST, SLOW])
    known = Results(2, 2, found.runs, {"sea": [215.0]})
    verdict = check.judge(known)
    assert (verdict.met, verdict.measured) == (True, "3,000 [2,000, 4,000]")
    assert "first exceeds the expert's of sea, 215.0 less 10: at most 4,000" in verdict.target
    assert check.judge(Results(2, 2, found.runs, {"sea": [222.0]})).met is False
    assert check.judge(Results(2, 2, found.runs, {"land": [200.0]})).met is None


def test_ends_judges_mean_or_every_seed() -> None:
    assert judge(Ends("land", "a", 210), SLOW, FAST).met
    assert judge(Ends("land", "a", 216), SLOW, FAST).met is False
    assert judge(Ends("land", "a", 215, every_seed=True), SLOW, FAST).met is False
    assert judge(Ends("land", "a", 210, every_seed=True), SLOW, FAST).met


def test_ends_compares_with_expert_return() -> None:
    near = Ends("land", "a", None, less=10)
    assert judge(near, SLOW, SLOW, expert=220).met
    assert judge(near, SLOW, SLOW, expert=221).met is False
    assert judge(Ends("land", "a", None), SLOW, SLOW, expert=211).met is False
    assert judge(near, SLOW, SLOW).met is None
    assert "the expert's 220.0 less 10" in judge(near, SLOW, SLOW, expert=220).target
    above = Ends("land", "a", None, less=-5)
    assert judge(above, SLOW, SLOW, expert=205).met
    assert judge(above, SLOW, SLOW, expert=206).met is False
    assert "the expert's 205.0 and 5 in" in judge(above, SLOW, SLOW, expert=205).target


@pytest.mark.parametrize(
    ("values", "rises", "met"),
    [
        ([1.0, 2.0, 3.0, 4.0], True, True),
        ([1.0, 2.0, 3.0, 4.0], False, False),
        ([4.0, 3.0, 2.0, 1.0], False, True),
        ([math.nan, 2.0, 3.0, 1.0], False, True),  # nothing was learnt in the first interval
        ([2.0, 9.0, 9.0, 2.0], True, False),
    ],
)
def test_trend_follows_direction_of_metric(values: list[float], rises: bool, met: bool) -> None:
    found = results([SLOW, SLOW], metrics={"q_mean_dqn": values})
    assert Trend("land", "a", "q_mean_dqn", rises).judge(found).met is met


def test_trend_with_uncertain_or_unknown_metric_is_not_met() -> None:
    rising = results([SLOW], metrics={"q": [0.0, 0.0, 0.0, 2.0]})
    falling = results([SLOW], metrics={"q": [0.0, 0.0, 0.0, -1.0]})
    runs = [*rising.of("land", "a"), *falling.of("land", "a")]
    both = results([SLOW, SLOW])
    mixed = type(both)(2, 2, {("land", "a"): runs}, {})
    assert Trend("land", "a", "q", rises=True).judge(mixed).met is False
    assert Trend("land", "a", "q", rises=False).judge(mixed).met is False
    assert Trend("land", "a", "unknown", rises=True).judge(both).met is None


def test_change_is_last_quarter_minus_first_quarter() -> None:
    assert change([1.0, 3.0, 9.0, 9.0, 9.0, 9.0, 4.0, 6.0]) == 3
    assert math.isnan(change([math.nan, 1.0]))


def test_better_is_met_only_if_difference_is_certain() -> None:
    check = Better("land", "a", "b")
    assert check.judge(results([FAST, FAST], [NEVER, NEVER])).met
    assert check.judge(results([NEVER, NEVER], [FAST, FAST])).met is False
    assert check.judge(results([FAST, NEVER], [FAST, NEVER])).met is False


def test_not_worse_compares_areas_under_the_curves() -> None:
    check = NotWorse("land", "a", "b")
    same = check.judge(results([FAST, SLOW], [FAST, SLOW]))
    assert (same.met, same.measured.partition(" [")[0]) == (True, "difference 0.0")
    assert check.judge(results([FAST, FAST], [SLOW, SLOW])).met, "earlier, though not much higher"
    assert check.judge(results([SLOW, SLOW], [FAST, FAST])).met is False


def test_not_worse_anywhere_needs_no_common_scale() -> None:
    check = NotWorseAnywhere(("land", "sea"), "a", "b")

    def judged(
        land: tuple[list[float], list[float]], sea: tuple[list[float], list[float]]
    ) -> Verdict:
        found = [results([a, a], [b, b]).runs for a, b in (land, sea)]
        runs = {("land", name): found[0]["land", name] for name in "ab"}
        runs |= {("sea", name): found[1]["land", name] for name in "ab"}
        return check.judge(Results(2, 2, runs, {}))

    assert judged((FAST, SLOW), (SLOW, SLOW)).measured == "0.75 [0.75, 0.75]"
    far = [10 * each for each in FAST]
    half = judged((SLOW, far), (FAST, SLOW))
    assert (half.met, half.measured) == (True, "0.50 [0.50, 0.50]")
    assert judged((SLOW, FAST), (SLOW, SLOW)).met is False
    only = check.judge(results([FAST, FAST], [SLOW, SLOW]))
    assert only.target.startswith("1 of 2 scenes, a:")
    assert only.met
    assert check.judge(Results(2, 2, {}, {})).met is None


@pytest.mark.parametrize(
    "check",
    [
        Passes("land", "a", 200, by=9000),
        Ends("land", "a", 0),
        Trend("land", "a", "q", rises=True),
        Better("land", "a", "b"),
        Better("land", "b", "a"),
        NotWorse("land", "a", "b"),
    ],
)
def test_check_with_too_few_runs_gives_no_verdict(check: Check) -> None:
    few = check.judge(results([FAST, FAST], [FAST, FAST], seeds=3))
    assert (few.met, few.word, few.measured) == (None, "not enough runs", "2 of 3 runs")
