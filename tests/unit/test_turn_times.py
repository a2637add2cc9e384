from __future__ import annotations

import numpy as np
import pytest

from server.gateway.turn_times import RECENT, TurnTimes
from server.ipc.messages import GatewayReport
from server.ipc.turn_buckets import TURN_BUCKETS_S


def test_turn_histogram_bounds_ascend() -> None:
    assert list(TURN_BUCKETS_S) == sorted(set(TURN_BUCKETS_S))
    assert TURN_BUCKETS_S[0] > 0


def test_turn_histogram_buckets_are_cumulative() -> None:
    times = TurnTimes()
    for seconds in (0.0, TURN_BUCKETS_S[1], TURN_BUCKETS_S[-1], 1000.0):
        times.add(seconds)
    assert times.buckets == [1] + [2] * (len(TURN_BUCKETS_S) - 2) + [3, 4]
    assert times.turns == 4
    assert times.seconds == pytest.approx(1000 + TURN_BUCKETS_S[1] + TURN_BUCKETS_S[-1])


def test_turn_histogram_bound_belongs_to_its_bucket() -> None:
    for i, bound in enumerate(TURN_BUCKETS_S):
        times = TurnTimes()
        times.add(bound)
        assert times.buckets.index(1) == i


def test_gateway_report_without_turns_has_zero_buckets() -> None:
    report = GatewayReport(0, {}, 0, 0, {}, 0, 0.0, 0.0, 0, 0, 0.0, 0.0)
    assert report.turn_buckets == TurnTimes().buckets == [0] * (len(TURN_BUCKETS_S) + 1)


def test_percentiles_are_reset_by_new_interval_but_histogram_is_not() -> None:
    times = TurnTimes()
    assert np.isnan(times.percentiles_ms()).all(), "a mean of nothing is none"
    for ms in range(101):
        times.add(ms / 1e3)
    assert times.percentiles_ms() == pytest.approx((50.0, 99.0))
    times.new_interval()
    assert np.isnan(times.percentiles_ms()).all(), "a mean of nothing is none"
    assert times.turns == times.buckets[-1] == 101


def test_percentiles_cover_only_newest_turns() -> None:
    times = TurnTimes()
    for _ in range(10):
        times.add(9.0)
    for _ in range(RECENT):
        times.add(0.001)
    assert times.percentiles_ms() == pytest.approx((1.0, 1.0))


def test_turn_time_is_measured_from_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.turn_times.perf_counter", lambda: 10.25)
    times = TurnTimes()
    times.stop(10.0)
    assert times.seconds == 0.25
