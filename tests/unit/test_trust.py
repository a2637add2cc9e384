"""agent/trust.py: what episodes of network and expert say about trusting the expert."""

from __future__ import annotations

import numpy as np
import pytest

from agent.trust import TAUGHT, Trust

TEACHER = [6.0, 7.0, 5.0, 6.0, 8.0]


def trust_after(
    *returns: float, teacher: list[float] = TEACHER, trust: Trust | None = None
) -> float:
    trust = trust or Trust()
    for found in returns:
        trust.compare([found], teacher)
    return trust.value


def test_trust_is_full_without_evidence() -> None:
    trust = Trust()
    assert trust.value == 1.0
    trust.compare([100.0] * 50, [])
    trust.compare([], TEACHER)
    assert trust.value == 1.0


def test_one_lucky_episode_lowers_no_trust() -> None:
    assert trust_after(0.0, 1e6) == 1.0
    assert trust_after(0.0, 1e6, 0.0, 1e6, 0.0) == 1.0


def test_trust_goes_once_network_is_better() -> None:
    assert trust_after(*[9.0] * 10) < 0.01


def test_trust_goes_where_network_does_exactly_as_expert() -> None:
    """A cloned student of a deterministic expert ties with it: it must come free."""
    assert trust_after(*[6.0] * 10, teacher=[6.0] * 5) < 0.01


def test_trust_goes_where_both_are_equally_good_by_chance() -> None:
    rng = np.random.default_rng(0)
    teacher = rng.normal(100, 50, 40).tolist()
    assert trust_after(*rng.normal(100, 50, 100), teacher=teacher) < 0.1


def test_trust_comes_back_when_network_falls() -> None:
    trust = Trust()
    assert trust_after(*[9.0] * 30, trust=trust) < 0.01
    assert trust_after(*[1.0] * 15, trust=trust) == 1.0


def test_network_that_is_better_only_while_it_is_taught_is_taught_again() -> None:
    """Cloning a noisy expert averages its noise away: the student is better, thanks to it."""
    trust = Trust()
    assert trust_after(9.0, 9.5, 9.0, 9.5, 9.0, 9.0, 9.0, trust=trust) < 0.1
    values = [trust_after(8.5, trust=trust) for _ in range(12)]
    assert max(values) >= TAUGHT, "although it is still better than the expert"


def test_network_that_was_taught_by_a_worse_expert_is_not_taught_again() -> None:
    trust = Trust()
    trust_after(*[6.0] * 8, teacher=[6.0] * 5, trust=trust)
    assert trust_after(*[40.0] * 10, teacher=[6.0] * 5, trust=trust) < 0.01
    assert trust_after(*[20.0] * 10, teacher=[6.0] * 5, trust=trust) < 0.01, (
        "it falls, but not so far"
    )


def test_trust_stays_where_network_is_worse() -> None:
    rng = np.random.default_rng(0)
    teacher = rng.normal(100, 50, 40).tolist()
    assert trust_after(*rng.normal(0, 50, 100), teacher=teacher) > 0.9


def test_trust_depends_on_order_of_returns_alone() -> None:
    returns = [5.5, 9.0, 6.5, 9.0, 9.0]
    scaled = trust_after(*(1e4 * r for r in returns), teacher=[1e4 * r for r in TEACHER])
    assert scaled == trust_after(*returns) < 1.0


def test_few_episodes_of_expert_count_as_less_evidence() -> None:
    assert trust_after(9.0, 9.0, teacher=TEACHER[:1]) > trust_after(9.0, 9.0)


def test_an_evaluation_counts_as_four_episodes_at_most() -> None:
    few, many = Trust(), Trust()
    few.compare([9.0] * 4, TEACHER)
    many.compare([9.0] * 400, TEACHER)
    assert many.value == few.value == pytest.approx(trust_after(*[9.0] * 4))
