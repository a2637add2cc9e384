from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from agent.advantage import advantage_weights
from config.models import AdvantageConfig, Config, RewardConfig, TrainerConfig
from server.monitor.watches import (
    BEHIND,
    BEHIND_S,
    CONFIG_IDS,
    ENOUGH,
    FEW,
    JUMP_S,
    ClockWatch,
    PaceWatch,
    SampleWatch,
    config_findings,
)
from tests.support.worlds import SPEC


def test_small_sample_is_found_until_recovery() -> None:
    watch = SampleWatch()
    found = [
        len(watch.look({"weight_ess_dqn": share, "weight_ess_expert": 0.9}))
        for share in (0.5, 0.03, 0.029, 0.033, math.nan, 0.02, 0.035, 0.036, 0.033, 0.01)
    ]
    assert found == [0, 0, 1, 1, 1, 1, 1, 0, 0, 1]


def test_small_sample_is_found_per_actor() -> None:
    watch = SampleWatch()
    (first,) = watch.look({"weight_ess_dqn": 0.017, "weight_ess_expert": 0.5})
    assert first.id == "few_rows_dqn"
    assert "the effective sample size of dqn is 1.7% of its rows" in first.text
    assert "lower advantage.beta" in first.cure
    both = watch.look({"weight_ess_dqn": 0.02, "weight_ess_expert": 0.029})
    assert [each.id for each in both] == ["few_rows_dqn", "few_rows_expert"]
    assert "of expert is 2.9%" in both[1].text


def _smallest_share(settings: AdvantageConfig) -> float:
    """Of the rows of an actor, with the signals that make it as small as can be and others."""
    n, draw = 20_000, np.random.default_rng(1)
    signals = [
        draw.normal(size=n),
        draw.exponential(size=n),
        draw.pareto(1.1, n),
        draw.lognormal(0, 3, n),
    ]
    # One value, and another one that few rows have: nothing is more unequal.
    signals += [np.arange(n) < n * share for share in np.geomspace(1e-3, 0.3, 60)]
    shares = []
    for signal in signals:
        w = advantage_weights(
            torch.tensor(signal),
            None,
            beta=settings.beta,
            clip=settings.clip,
            weight_min=settings.weight_min,
            weight_max=settings.weight_max,
        ).double()
        shares.append(float(w.sum() ** 2 / (n * (w * w).sum())))
    return min(shares)


def test_default_weights_cannot_warn_of_themselves_whatever_they_weigh() -> None:
    assert ENOUGH < _smallest_share(AdvantageConfig()) < 0.04
    assert _smallest_share(AdvantageConfig(beta=5, clip=10, weight_max=1e6)) < FEW


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
    found = config_findings(Config(advantage=AdvantageConfig(**settings)), None)
    assert [each.id for each in found] == ["weights_on_td"] * warned
    for each in found:
        assert "known to stop learning" in each.text
        assert settings["signal"] in each.text


def test_config_findings_name_reward_weights_that_the_game_lacks() -> None:
    config = Config(reward=RewardConfig(weights={"gold": 1.0, SPEC.rewards[0]: 2.0}))
    assert config_findings(config, None) == []
    (found,) = config_findings(config, SPEC)
    assert found.id in CONFIG_IDS
    assert "gold" in found.text
    assert SPEC.rewards[0] in found.cure


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


def test_training_that_keeps_the_pace_of_games_in_lock_step_is_no_finding() -> None:
    watch = PaceWatch()
    trainer = TrainerConfig(max_lag_updates=50, replay_ratio=0.25)
    for second in range(60):
        row = {"updates_due": 50.0 + 0.25 * 64, "slots": 64.0}
        assert watch.look(row, trainer, second) == []


def test_training_far_behind_is_found_once_it_lasts_and_says_what_to_set() -> None:
    watch = PaceWatch()
    trainer = TrainerConfig(max_lag_updates=50, replay_ratio=0.25)
    row = {"updates_due": 1234.0, "frames_per_s": 60.0, "updates_per_s": 6.0, "slots": 1.0}
    assert watch.look(row, trainer, 100.0) == []
    assert watch.look(row, trainer, 100.0 + BEHIND_S - 1) == []
    (found,) = watch.look(row, trainer, 100.0 + BEHIND_S)
    assert found.id == BEHIND
    assert "1,234 updates behind (4,936 frames)" in found.text
    assert "15.0 updates/s due, and 6.0 updates/s are made" in found.text
    assert "trainer.replay_ratio to 0.1," in found.cure
    assert "max_lag_updates" not in found.cure
    assert watch.look(row | {"updates_due": 60.0}, trainer, 120.0) == []
    assert watch.look(row, trainer, 121.0) == [], "it begins anew"


def test_training_behind_without_a_limit_names_the_limit_and_catching_up_only_waits() -> None:
    watch = PaceWatch()
    trainer = TrainerConfig(max_lag_updates=None, replay_ratio=0.25)
    row = {"updates_due": 5000.0, "frames_per_s": 400.0, "updates_per_s": 0.0, "slots": 1.0}
    watch.look(row, trainer, 0.0)
    (found,) = watch.look(row, trainer, BEHIND_S)
    assert "set trainer.max_lag_updates" in found.cure
    assert "trainer.replay_ratio, make" in found.cure, "nothing is known of what would be kept"
    (found,) = watch.look(row | {"frames_per_s": 0.0, "updates_per_s": 50.0}, trainer, BEHIND_S + 1)
    assert found.cure == "wait: training is catching up"


def test_training_that_makes_up_for_a_burst_is_no_finding_until_it_falls_behind_again() -> None:
    watch = PaceWatch()
    trainer = TrainerConfig(max_lag_updates=50, replay_ratio=0.25)
    burst = {"updates_due": 2000.0, "frames_per_s": 900.0, "updates_per_s": 50.0, "slots": 1.0}
    after = burst | {"frames_per_s": 0.0}
    assert watch.look(burst, trainer, 0.0) == []
    for second in range(1, 30):
        assert watch.look(after, trainer, second) == [], "wait is nothing to set"
    (found,) = watch.look(burst, trainer, 30.0)
    assert "trainer.replay_ratio to 0.056," in found.cure


def test_no_numbers_of_training_yet_is_no_finding() -> None:
    watch = PaceWatch()
    for second in range(30):
        assert watch.look({"updates_due": math.nan}, TrainerConfig(), second) == []
        assert watch.look({}, TrainerConfig(), second) == []
