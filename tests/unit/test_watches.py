from __future__ import annotations

import math
from typing import Any

import pytest

from config.models import AdvantageConfig
from server.monitor.watches import CONFIG_IDS, JUMP_S, ClockWatch, SampleWatch, config_findings


def test_small_sample_is_found_until_recovery() -> None:
    watch = SampleWatch()
    found = [
        len(watch.look({"weight_ess_dqn": share, "weight_ess_expert": 0.9}))
        for share in (0.5, 0.1, 0.09, 0.12, math.nan, 0.09, 0.15, 0.151, 0.12, 0.01)
    ]
    assert found == [0, 0, 1, 1, 1, 1, 1, 0, 0, 1]


def test_small_sample_is_found_per_actor() -> None:
    watch = SampleWatch()
    (first,) = watch.look({"weight_ess_dqn": 0.057, "weight_ess_expert": 0.5})
    assert first.id == "few_rows_dqn"
    assert "the effective sample size of dqn is 5.7% of its rows" in first.text
    assert "lower advantage.beta" in first.cure
    both = watch.look({"weight_ess_dqn": 0.05, "weight_ess_expert": 0.099})
    assert [each.id for each in both] == ["few_rows_dqn", "few_rows_expert"]
    assert "of expert is 9.9%" in both[1].text


def test_small_sample_watch_without_metrics_finds_nothing() -> None:
    assert SampleWatch().look({"weight_ess_dqn": math.nan}) == []
    assert SampleWatch().look({}) == []


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
def test_config_findings_for_reward_weights_on_td_loss(
    settings: dict[str, Any], warned: bool
) -> None:
    found = config_findings(AdvantageConfig(**settings))
    assert {each.id for each in found} == (CONFIG_IDS if warned else set())
    for each in found:
        assert "known to stop learning" in each.text
        assert settings["signal"] in each.text


def test_clock_jump_is_found_once_per_jump() -> None:
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
    (forward,), (back,) = said[2], said[4]
    assert "clock jumped by +3600 s" in forward.text
    assert "clock jumped by -4603 s" in back.text
    assert forward.id != back.id, "the second is no repetition of the first"
