from __future__ import annotations

import json
from typing import Any

import pytest

from config.changes import Change, changed, games_told, live_names, parse
from config.fields import all_settings, flat
from config.load import ConfigError, config_from
from config.models import Config

CONFIG = Config()


def error_message(values: dict[str, Any], config: Config = CONFIG) -> str:
    with pytest.raises(ConfigError) as error:
        changed(config, values)
    return str(error.value)


def test_changed_reports_changes_and_keeps_other_settings() -> None:
    new, changes = changed(CONFIG, {"learner.n_step": 5, "advantage.mode": "global"})
    assert changes == [
        Change("learner.n_step", 3, 5),
        Change("advantage.mode", "per_actor", "global"),
    ]
    before, after = flat(CONFIG), flat(new)
    assert {key for key in before if before[key] != after[key]} == {c.key for c in changes}
    assert Config() == CONFIG, "the old one is as it was"


def test_changed_schedule_name_sets_start_and_end() -> None:
    new, changes = changed(CONFIG, {"expert.ratio": 0.2, "exploration.noise": 0.2})
    assert (new.expert.ratio.start, new.expert.ratio.end) == (0.2, 0.2)
    assert new.expert.ratio.frames == CONFIG.expert.ratio.frames
    # The noise begins at 0.2 already.
    assert [change.key for change in changes] == [
        "expert.ratio.start", "expert.ratio.end", "exploration.noise.end",
    ]  # fmt: skip


def test_changed_same_value_reports_no_change() -> None:
    assert changed(CONFIG, {"learner.gamma": 0.99}) == (CONFIG, [])
    assert changed(CONFIG, {}) == (CONFIG, [])


def test_changed_accepts_live_settings_of_every_kind() -> None:
    values = {
        "expert.ratio": 0.2, "expert.decay": "evaluation", "expert.unit": "episode",
        "expert.segment_frames": 9, "exploration.epsilon": 0.1, "exploration.noise": 0.3,
        "learner.learning_rate": 1e-4, "learner.n_step": 5, "learner.gamma": 0.9,
        "learner.target_tau": 0.01, "advantage.mode": "off", "advantage.beta": 1.0,
        "advantage.clip": 2.0, "advantage.weight_min": 0.1, "advantage.weight_max": 10.0,
        "advantage.normalize": True, "advantage.applies_to": ["td"], "advantage.signal": "critic",
        "advantage.actor_factor": {"dqn": 2.0},
    }  # fmt: skip
    new, _ = changed(CONFIG, values)
    assert new.advantage.applies_to == ("td",)
    assert new.advantage.actor_factor == {"dqn": 2.0}
    assert new.exploration.epsilon.end == 0.1


def test_live_settings_are_exactly_marked_fields_and_schedules() -> None:
    live = {key for key, setting in all_settings().items() if setting.live}
    schedules = ("tempest.zap_gate", "expert.ratio", "exploration.noise", "imitation.expert")
    for schedule in schedules:
        assert {f"{schedule}.{part}" for part in ("start", "end", "frames", "hold")} <= live
    assert not any(key.startswith("replay.priority_beta") for key in live)
    assert {key for key in live if key.startswith("learner.")} == {
        f"learner.{name}"
        for name in ("batch_size", "n_step", "gamma", "learning_rate", "target_tau")
    }


def test_live_names_match_exactly_all_live_settings() -> None:
    def named(key: str) -> bool:
        return any(key == name or (name[-1] == "*" and key.startswith(name[:-1])) for name in names)

    names = live_names()
    assert len(names) < 20
    for key, setting in all_settings().items():
        assert named(key) == setting.live, key


@pytest.mark.parametrize(
    "key", ["server.port", "learner.hidden", "learner.value", "run.seed", "replay.device"]
)
def test_changed_fixed_setting_raises_and_lists_live_names(key: str) -> None:
    message = error_message({key: 1})
    assert f"{key}: cannot be changed while the run runs" in message
    for each in ("expert.*", "exploration.*", "advantage.*", "learner.learning_rate",
                 "learner.n_step", "learner.gamma", "learner.target_tau"):  # fmt: skip
        assert each in message
        assert each in live_names()


def test_changed_misspelled_setting_suggests_nearest() -> None:
    assert "expert.ration: there is no such setting (did you mean expert.ratio?)" in error_message(
        {"expert.ration": 0.2}
    )
    assert "did you mean learner.n_step?" in error_message({"learner.nstep": 2})


def test_changed_invalid_value_raises() -> None:
    message = error_message({"expert.ratio": 2.0})
    assert "change: expert.ratio.start: expected a number from 0 to 1, got 2.0" in message
    assert "expected true or false, got 'yes'" in error_message({"advantage.normalize": "yes"})
    # Together with what stays: each by itself would do.
    assert "must not exceed" in error_message({"advantage.weight_min": 1000.0})


def test_changed_several_errors_are_reported_together() -> None:
    message = error_message({"server.port": 1, "expert.nothing": 2, "learner.n_step": 4})
    assert len(message.splitlines()) == 2


def test_changed_field_set_twice_raises() -> None:
    assert "expert.ratio.start: set twice" in error_message(
        {"expert.ratio": 0.1, "expert.ratio.start": 0.3}
    )


def test_games_told_reports_only_what_changed() -> None:
    before = config_from({"server.settings": {"level": 3, "name": "x" * 900}})
    new, changes = games_told(before, {"level": 4, "name": "x" * 900, "lives": 5})
    assert changes == [Change("server.settings", {"level": 3}, {"level": 4, "lives": 5})]
    assert new.server.settings == {"level": 4, "name": "x" * 900, "lives": 5}
    assert games_told(new, {"level": 4}) == (new, [])


def test_games_can_be_told_a_bounded_number_of_settings() -> None:
    """Told one by one, as by a program that is wrong: what is written down grows with what is told,
    and what every game is sent has a limit."""
    config, written = Config(), 0
    for n in range(64):
        config, (change,) = games_told(config, {f"name {n}": "x" * 100})
        written += len(json.dumps([change.old, change.new]))
    with pytest.raises(ConfigError, match="at most 64 settings, got 65"):
        games_told(config, {"one more": 1})
    assert len(config.server.settings) == 64
    assert written < 64 * 150
    assert len(json.dumps(config.server.settings)) < 16_384
    # Those that are there can still be changed.
    config, (change,) = games_told(config, {"name 3": 7})
    assert (change.old, change.new) == ({"name 3": "x" * 100}, {"name 3": 7})


def test_parse_key_value_words_returns_typed_values() -> None:
    words = ["expert.ratio=1", "learner.n_step=5", "expert.unit=segment",
             'advantage.applies_to=["td"]', "advantage.actor_factor={dqn = 2.0}",
             "advantage.normalize=true", "no.such=x=y"]  # fmt: skip
    assert parse(words) == {
        "expert.ratio": 1.0,
        "learner.n_step": 5,
        "expert.unit": "segment",
        "advantage.applies_to": ["td"],
        "advantage.actor_factor": {"dqn": 2.0},
        "advantage.normalize": True,
        "no.such": "x=y",
    }
    for word in ("expert.ratio", "=0.2"):
        with pytest.raises(ConfigError, match="expected KEY=VALUE"):
            parse([word])
    with pytest.raises(ConfigError, match="set twice"):
        parse(["learner.gamma=1", "learner.gamma=0.5"])


def test_change_str_shows_old_and_new_value() -> None:
    assert str(Change("expert.ratio.start", 0.5, 0.2)) == "expert.ratio.start: 0.5 -> 0.2"
    assert str(Change("advantage.applies_to", ["continuous"], ["td"])) == (
        'advantage.applies_to: ["continuous"] -> ["td"]'
    )
