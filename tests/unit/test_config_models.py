"""The models: documented, frozen, strict, and possible as a whole."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from config.docstrings import field_docs
from config.fields import all_settings, groups
from config.models import ActorName, Config, LearnerConfig, Schedule, Section
from protocol.actor import NAMES

UNITS = {"_s": "seconds", "_bytes": "bytes", "_steps": "steps", "_updates": "updates"}
NO_UNIT = {
    "run.seed", "server.port", "server.websocket_port", "server.http_port", "tempest.port",
    "trainer.nice",
}  # fmt: skip
"""Whole numbers that count nothing."""


def _undocumented(
    model: type[Section], docs: Callable[[type], dict[str, str]] = field_docs
) -> list[str]:
    """The fields of a model, and of those within it, that say nothing about themselves."""
    found = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        about = docs(model).get(name)
        if isinstance(inner, type) and issubclass(inner, Section):
            found += _undocumented(inner, docs)
            about = about or (inner.__doc__ if model is Config else None)
        if not about:
            found.append(f"{model.__name__}.{name}")
    return found


def test_every_field_and_section_has_description() -> None:
    assert _undocumented(Config) == []
    assert all(setting.description.endswith((".", ")")) for setting in all_settings().values())
    assert all(groups().values())


def test_undocumented_check_finds_field_without_description() -> None:
    class Bare(Section):
        said: int = 1
        unsaid: int = 1

    class Outer(Section):
        bare: Bare = Bare()

    docs = {Bare: {"said": "Said."}, Outer: {"bare": "A group."}}
    assert _undocumented(Outer, docs.__getitem__) == ["Bare.unsaid"]


def test_number_settings_have_unit_matching_name_suffix() -> None:
    for key, setting in all_settings().items():
        for ending, unit in UNITS.items():
            if key.endswith(ending):
                assert setting.unit == unit, key
        if setting.kind is int:
            assert bool(setting.unit) != (key in NO_UNIT), key


def test_config_assignment_raises_frozen() -> None:
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.server.port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.server = None  # type: ignore[assignment, misc]


def test_config_pickle_round_trip() -> None:
    config = Config.model_validate({"server": {"token": "t", "settings": {"level": 3}}})
    assert pickle.loads(pickle.dumps(config)) == config


def test_actor_names_equal_protocol_names() -> None:
    assert set(get_args(ActorName)) == set(NAMES.values())


def test_tuple_field_accepts_list() -> None:
    assert LearnerConfig.model_validate({"hidden": [8, 8]}).hidden == (8, 8)


def test_default_config_passes_validation() -> None:
    """Defaults are not validated when a model is made."""
    assert Config.model_validate(Config().model_dump()) == Config()


@pytest.mark.parametrize(
    ("group", "fields", "words"),
    [
        ("server", {"port": "7000"}, "valid integer"),
        ("server", {"port": True}, "valid integer"),
        ("server", {"port": 65_536}, "less than or equal to 65535"),
        ("server", {"port": -1}, "greater than or equal to 0"),
        ("server", {"handshake_timeout_s": -1.0}, "greater than 0"),
        ("server", {"idle_timeout_s": 0.0}, "greater than 0"),
        ("server", {"write_timeout_s": float("inf")}, "finite"),
        ("server", {"max_message_bytes": 2**32}, "4294967295"),
        ("server", {"device": "gpu"}, "pattern"),
        ("server", {"token": ""}, "at least 1"),
        ("server", {"settings": {"a": {"b": [None]}}}, "a.b is None"),
        ("server", {"settings": {"a": 2**63}}, "64 bits"),
        ("server", {"settings": {f"a{n}": n for n in range(65)}}, "at most 64 settings, got 65"),
        ("server", {"settings": {"a": "x" * 1024}}, "'a': expected at most 1024 bytes .*got 1033"),
        ("server", {"settings": {"a": ["ü" * 510]}}, "at most 1024 bytes"),
        ("server", {"settings": {"x" * 1024: 1}}, "at most 1024 bytes"),
        ("server", {"settings": {f"a{n}": "x" * 990 for n in range(17)}}, "at most 16384 bytes"),
        ("server", {"http_names": ["http://a.example"]}, "pattern"),
        ("server", {"http_names": ["a.example:80"]}, "pattern"),
        ("server", {"http_names": ["*"]}, "pattern"),
        ("run", {"dir": ""}, "empty text"),
        ("trainer", {"enabled": 1}, "valid boolean"),
        ("trainer", {"replay_ratio": 0.0}, "greater than 0"),
        ("trainer", {"max_lag_updates": 0}, "greater than or equal to 1"),
        ("trainer", {"min_steps": 1_000_001}, "training would never begin"),
        ("replay", {"capacity_steps": 999}, "training would never begin"),
        ("replay", {"capacity_steps": 2**31}, "less than 2147483648"),
        ("trainer", {"threads": 1_000_000}, "less than or equal to 1024"),
        ("replay", {"actor_share": {"dqn": 0.6, "expert": 0.5}}, "more than 1"),
        ("replay", {"actor_share": {"human": 0.6}}, "'dqn' or 'expert'"),
        ("expert", {"ratio": {"start": 1.1, "end": 0.0, "frames": 1}}, "less than or equal to 1"),
        ("expert", {"ratio": {"start": 0.1, "end": -0.1, "frames": 1}}, "greater than or equal"),
        ("exploration", {"epsilon": {"start": 2.0, "end": 0.0, "frames": 1}}, "less than or eq"),
        ("exploration", {"noise": {"start": 2.0, "end": 0.0, "frames": 0}}, "greater than or eq"),
        ("learner", {"gamma": 1.5}, "less than or equal to 1"),
        ("learner", {"hidden": []}, "at least 1 item"),
        ("learner", {"hidden": [0]}, "greater than or equal to 1"),
        ("advantage", {"weight_min": 3.0, "weight_max": 2.0}, "must not exceed"),
        ("advantage", {"applies_to": ["discrete"]}, "'imitation' or 'td'"),
        ("advantage", {"actor_factor": {"dqn": -1.0}}, "greater than or equal to 0"),
        ("learner", {"gama": 0.9}, "Extra inputs"),
        ("tempest", {"reply_bytes": 4}, "expected 3 or 5, got 4"),
        ("tempest", {"reply_bytes": "5"}, "valid integer"),
        ("tempest", {"spinner": "knob"}, "'continuous' or 'levels'"),
        ("tempest", {"zap_gate": {"start": 2.0, "end": 0.0, "frames": 1}}, "less than or equal"),
        ("expert", {"plugin": "module"}, "pattern"),
        ("expert", {"plugin": "a.b:c.d"}, "pattern"),
        ("exploration", {"epsilon": {"start": 1.0, "end": 0.0, "frames": 1, "hold": -1}}, "equal"),
    ],
)
def test_invalid_field_value_raises_validation_error(
    group: str, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        Config.model_validate({group: fields})


@pytest.mark.parametrize(
    "settings",
    [{"start_level": 0}, {"start_level": 82}, {"start_level": 9.0}, {"start_advanced": 1}],
)
def test_start_level_validated_only_with_tempest_port(settings: dict[str, Any]) -> None:
    """For other games these names may mean something else."""
    Config.model_validate({"server": {"settings": settings}})
    with pytest.raises(ValidationError, match=next(iter(settings))):
        Config.model_validate({"server": {"settings": settings}, "tempest": {"port": 0}})
    good = {"start_level": 81, "start_advanced": False, "lives": 3}
    Config.model_validate({"server": {"settings": good}, "tempest": {"port": 0}})


def test_boundary_values_are_accepted() -> None:
    config = Config.model_validate(
        {
            "server": {"port": 0, "settings": {f"a{n}": "x" * 245 for n in range(64)}},
            "replay": {"capacity_steps": 1000, "actor_share": {"dqn": 0.7, "expert": 0.3}},
            "advantage": {"weight_min": 1.0, "weight_max": 1.0},
            "exploration": {"noise": {"start": 2.0, "end": 0.0, "frames": 1}},
            "learner": {"batch_size": 5000},
        }
    )
    assert config.exploration.noise == Schedule(start=2.0, end=0.0, frames=1)
    assert config.trainer.min_steps < config.learner.batch_size
