"""Presets hold differences only, each with its reason; the page of all settings is current."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from config import docs
from config.fields import all_settings
from config.load import COMMAND_LINE, Layer, Overrides, load, presets, toml_layer
from config.models import Config

ROOT = Path(__file__).parents[2]


def _same_as_default(text: str) -> list[str]:
    values = toml_layer(text, "preset").values
    return [
        key
        for key, value in values.items()
        if all_settings()[key].plain(all_settings()[key].default) == value
    ]


def _without_reason(text: str) -> list[str]:
    lines = text.splitlines()
    return [
        line
        for above, line in zip(["", *lines], lines, strict=False)
        if "=" in line.partition("#")[0] and "#" not in line and not above.startswith("#")
    ]


def test_presets_list_equals_expected_names() -> None:
    assert list(presets()) == [
        "bench", "breakout", "demo", "original", "pong", "tempest-2025", "tempest",
    ]  # fmt: skip
    assert resources.files("config").joinpath("presets/demo.toml").is_file()


@pytest.mark.parametrize("name", presets())
def test_preset_loads_and_is_recorded_as_origin(name: str) -> None:
    loaded = load(Overrides(preset=name), {})
    assert f"preset {name}" in loaded.origins.values()


@pytest.mark.parametrize("name", presets())
def test_preset_contains_only_commented_non_default_values(name: str) -> None:
    text = presets()[name]
    assert text.startswith("# ")
    assert _same_as_default(text) == []
    assert _without_reason(text) == []


def test_tempest_port_implies_tempest_preset() -> None:
    """A port for them is enough, wherever it is set."""
    preset = load(Overrides(preset="tempest"), {})
    option = Layer(COMMAND_LINE, {"tempest.port": 0}, {"tempest.port": "--tempest-port"})
    for loaded in (
        load(Overrides(settings=option), {}),
        load(environ={"UNDERSTUDY_TEMPEST__PORT": "0"}),
    ):
        assert loaded.config.tempest.port == 0
        assert loaded.config.reward == preset.config.reward
        assert loaded.origins["reward.clip"] == "preset tempest"
    over = {"UNDERSTUDY_TEMPEST__PORT": "0", "UNDERSTUDY_REWARD__CLIP": "5"}
    assert load(environ=over).config.reward.clip == 5.0
    other = load(Overrides(preset="original"), {"UNDERSTUDY_TEMPEST__PORT": "0"})
    assert other.config.reward.clip is None, "one that is named is the only one"
    assert load(environ={"UNDERSTUDY_TEMPEST__PORT": "none"}).config == Config()


def test_tempest_2025_preset_has_constants_of_that_revision() -> None:
    config = load(Overrides(preset="tempest-2025"), {}).config
    learner, advantage = config.learner, config.advantage
    assert (learner.batch_size, learner.learning_rate, learner.gamma) == (8192, 2.5e-4, 0.995)
    assert (learner.n_step, learner.hidden) == (3, (256, 256, 128, 128))
    assert (learner.target, learner.target_tau, learner.value) == ("soft", 0.005, "scalar")
    assert not config.replay.prioritized
    assert (config.imitation.expert.start, config.imitation.expert.end) == (0, 0)
    assert config.imitation.taken == 0
    assert (advantage.mode, advantage.beta) == ("per_actor", 0.5)
    assert (advantage.weight_min, advantage.weight_max) == (0.1, 5.0)


def test_tempest_preset_has_constants_of_their_server() -> None:
    config = load(Overrides(preset="tempest"), {}).config
    assert config.learner.n_step == 12
    assert config.replay.stop_at_actor_change is False
    assert config.learner.adam_eps == 1.5e-4


def test_preset_checks_find_default_and_uncommented_values() -> None:
    text = "[server]\nport = 7777\ngateways = 2 # why\n[learner]\n# why\nn_step = 3"
    assert _same_as_default(text) == ["server.port", "learner.n_step"]
    assert _without_reason(text) == ["port = 7777"]


def test_configuration_page_equals_generated_page() -> None:
    path = ROOT / "docs/configuration.md"
    assert path.read_text(encoding="utf-8") == docs.page(), (
        "run: python -m config.docs > docs/configuration.md"
    )


def test_configuration_page_lists_every_setting_once() -> None:
    for key in all_settings():
        assert docs.page().count(f"| `{key}` |") == 1
