from __future__ import annotations

import math
from typing import Any

import pytest

from config.models import AdvantageConfig
from server.monitor.warnings import JUMP_S, ClockWatch, SampleWatch, config_warning


def test_small_sample_warning_is_given_once_until_recovery() -> None:
    watch = SampleWatch()
    said = [
        len(watch.look({"weight_ess_dqn": share, "weight_ess_expert": 0.9}))
        for share in (0.5, 0.1, 0.09, 0.08, 0.12, 0.09, 0.15, 0.05, 0.151, 0.09, 0.01)
    ]
    assert said == [0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0]


def test_small_sample_warning_is_given_per_actor() -> None:
    watch = SampleWatch()
    (first,) = watch.look({"weight_ess_dqn": 0.057, "weight_ess_expert": 0.5})
    assert "the effective sample size of dqn is 5.7% of its rows" in first
    assert "lower advantage.beta" in first
    (second,) = watch.look({"weight_ess_dqn": 0.05, "weight_ess_expert": 0.099})
    assert "of expert is 9.9%" in second


def test_small_sample_warning_ignores_missing_and_nan_metrics() -> None:
    watch = SampleWatch()
    assert watch.look({"weight_ess_dqn": math.nan}) == []
    assert watch.look({}) == []
    assert len(watch.look({"weight_ess_dqn": 0.05})) == 1
    assert watch.look({"weight_ess_dqn": math.nan}) == []
    assert watch.look({"weight_ess_dqn": 0.05}) == []


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({}, False),
        ({"applies_to": ("td",), "signal": "reward"}, True),
        ({"applies_to": ("continuous", "td"), "signal": "return"}, True),
        ({"applies_to": ("td",), "signal": "critic"}, False),
        ({"applies_to": ("td",), "mode": "off"}, False),
        ({"applies_to": ("td",), "mode": "global", "signal": "reward"}, True),
        ({"applies_to": ("continuous", "imitation"), "signal": "return"}, False),
    ],
)
def test_config_warning_for_reward_weights_on_td_loss(
    settings: dict[str, Any], warned: bool
) -> None:
    warning = config_warning(AdvantageConfig(**settings))
    assert (warning is not None) == warned
    if warning:
        assert "known to stop learning" in warning
        assert settings["signal"] in warning


def test_clock_jump_warning_is_given_once_per_jump() -> None:
    watch = ClockWatch()
    said = [
        watch.look(of_day, steady)
        for of_day, steady in (
            (1000.0, 5.0), (1001.0, 6.0),
            (4602.0, 7.0), (4603.0, 8.0),  # an hour forwards
            (1.0, 9.0), (2.0, 10.0),  # and more than that back
            (1 + JUMP_S, 10.0), (1001 + JUMP_S, 1010.0),  # by little; and a long while
        )
    ]  # fmt: skip
    assert [bool(one) for one in said] == [False, False, True, False, True, False, False, False]
    assert "clock jumped by +3600 s" in (said[2] or "")
    assert "clock jumped by -4603 s" in (said[4] or "")
