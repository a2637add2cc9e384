"""What several learners report, as one report."""

from __future__ import annotations

import math

import pytest

from agent.finding import Finding
from server.ipc.messages import TrainerReport
from server.monitor.merging import merged

NAN = math.nan


def report(**metrics: float) -> TrainerReport:
    return TrainerReport(
        {"buffer_total": 0.0, "buffer_dqn": 0.0, "buffer_expert": 0.0} | metrics, []
    )


@pytest.mark.parametrize(
    ("name", "first", "second", "expected"),
    [
        ("steps_stored", 10.0, 5.0, 15.0),
        ("buffer_dqn", 10.0, 5.0, 15.0),
        ("batch_n_dqn", 30.0, 10.0, 40.0),
        ("ring_fill", 0.25, 0.5, 0.5),
        ("q_max", 3.0, NAN, 3.0),
        ("updates", 7.0, 7.0, 7.0),
        ("frames", 15.0, 15.0, 15.0),
        ("expert_trust", 0.5, 1.0, 0.5),
    ],
)
def test_metric_of_two_learners_is_merged_as_it_declares(
    name: str, first: float, second: float, expected: float
) -> None:
    found = merged([report(**{name: first}), report(**{name: second})]).metrics[name]
    assert found == expected


def test_means_are_weighted_by_the_rows_of_the_actor() -> None:
    first = report(batch_n_dqn=30.0, batch_n_expert=0.0, td_err_mean_dqn=1.0, td_err_mean=1.0)
    second = report(batch_n_dqn=10.0, batch_n_expert=60.0, td_err_mean_dqn=3.0, td_err_mean=2.0)
    found = merged([first, second]).metrics
    assert found["td_err_mean_dqn"] == (30 * 1 + 10 * 3) / 40
    assert found["td_err_mean"] == (30 * 1 + 70 * 2) / 100


def test_mean_of_an_actor_that_only_one_learner_has_is_that_ones() -> None:
    first = report(batch_n_expert=0.0, q_mean_expert=NAN)
    second = report(batch_n_expert=4.0, q_mean_expert=2.0)
    assert merged([first, second]).metrics["q_mean_expert"] == 2.0
    assert math.isnan(merged([first, first]).metrics["q_mean_expert"])


def test_shares_of_the_replay_are_those_of_all_rows() -> None:
    first = report(buffer_total=90.0, buffer_expert=0.0, buffer_frac_expert=0.0)
    second = report(buffer_total=10.0, buffer_expert=10.0, buffer_frac_expert=1.0)
    assert merged([first, second]).metrics["buffer_frac_expert"] == 0.1


def test_findings_of_all_learners_are_said_once() -> None:
    finding = Finding("rows_unkept", "text", "cure")
    found = merged([report(), TrainerReport(report().metrics, [], [finding]), report()])
    assert found.findings == [finding]
