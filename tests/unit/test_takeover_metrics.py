"""Interventions in a row of metrics: what share of play they were of late, and how long."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from server.ipc.messages import GatewayReport
from server.monitor import collector as collector_module
from server.monitor.collector import MetricsCollector
from server.monitor.recent_ratio import LATE_S, RecentRatio

REPORT = GatewayReport(0, {}, 0, 0, {}, 0, math.nan, math.nan, 0, 0, 0.0, 0.0)


def test_interventions_of_all_gateways_are_one_share_and_one_length() -> None:
    collector = MetricsCollector()
    row = collector.row()
    assert (row["takeovers"], row["takeover_frames"]) == (0, 0)
    assert math.isnan(row["takeover_share"])
    assert math.isnan(row["takeover_length_mean"])
    collector.gateway(replace(REPORT, frames={"train": 5, "eval": 500}))
    assert math.isnan(collector.row()["takeover_share"]), "nobody has intervened"
    collector.gateway(replace(REPORT, frames={"train": 90, "eval": 500}, takeovers=(3, 20)))
    collector.gateway(replace(REPORT, index=1, frames={"train": 10}, takeovers=(1, 0)))
    collector.gateway_gone(1)  # what it counted stays
    row = collector.row()
    assert (row["takeovers"], row["takeover_frames"]) == (4, 20)
    assert row["takeover_share"] == pytest.approx(0.2)
    assert row["takeover_length_mean"] == 5


def test_length_is_that_of_the_interventions_that_began_in_the_last_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(collector_module.time, "monotonic", lambda: now)
    collector = MetricsCollector()
    for frames, begun, later, expected in (
        (40, 2, 1.0, 20.0),  # two of 20 frames
        (50, 3, 30.0, 50 / 3),
        (60, 5, LATE_S, 5.0),  # the first three began more than a minute ago
        (60, 5, LATE_S, math.nan),
    ):
        now += later
        collector.gateway(replace(REPORT, frames={"train": 900}, takeovers=(begun, frames)))
        found = collector.row()["takeover_length_mean"]
        assert found == pytest.approx(expected, nan_ok=True)


def test_share_is_that_of_the_last_minute() -> None:
    share = RecentRatio()
    assert math.isnan(share.of(0, 0, 1000.0))
    assert share.of(50, 100, 1001.0) == 0.5
    assert share.of(50, 200, 1030.0) == 0.25
    # The first hundred frames came more than a minute ago.
    assert share.of(50, 300, 1001.0 + LATE_S) == 0.0
    assert share.of(150, 400, 1030.0 + LATE_S) == 0.5
    assert math.isnan(share.of(150, 400, 5000.0)), "nobody plays"
    assert share.of(160, 410, 5001.0) == 1.0
