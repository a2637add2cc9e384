"""`understudy config show`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from config import show
from config.fields import HIDDEN, all_settings, flat
from config.load import COMMAND_LINE, Layer, Loaded, Overrides, load

SECRET = "s3cret-of-the-house"


@pytest.fixture
def loaded() -> Loaded:
    return load(
        Overrides(
            settings=Layer(
                COMMAND_LINE,
                {"server.port": 0, "learner.hidden": [128, 128]},
                {"server.port": "--port", "learner.hidden": "--learner.hidden"},
            )
        ),
        {
            "UNDERSTUDY_SERVER__TOKEN": SECRET,
            "UNDERSTUDY_SERVER__SETTINGS": '{"bold": "[red]x[/red]"}',
        },
    )


def _table(loaded: Loaded) -> str:
    out = io.StringIO()
    show.table(loaded, Console(file=out))
    return out.getvalue()


def test_table_has_one_line_per_setting(loaded: Loaded) -> None:
    head, *lines = _table(loaded).splitlines()
    assert head.split() == ["key", "value", "unit", "from"]
    assert [line.split()[0] for line in lines] == list(all_settings())
    found = {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in lines}
    assert found["server.port"].split() == ["0", "command", "line", "--port"]
    assert found["server.idle_timeout_s"].split() == ["300.0", "seconds", "default"]
    assert found["server.settings"].startswith('{"bold": "[red]x[/red]"}')
    assert found["server.token"].split() == [HIDDEN, "environment", "UNDERSTUDY_SERVER__TOKEN"]


def test_to_json_contains_values_and_origins(loaded: Loaded) -> None:
    found = json.loads(show.to_json(loaded))
    assert list(found) == list(all_settings())
    assert found["server.port"] == {"value": 0, "origin": "command line --port"}
    assert found["learner.hidden"] == {
        "value": [128, 128],
        "origin": "command line --learner.hidden",
    }
    assert found["reward.clip"] == {"value": None, "origin": "default"}
    assert found["server.token"]["value"] == HIDDEN
    assert json.loads(show.to_json(load(environ={})))["server.token"]["value"] is None


def test_toml_output_loads_to_equal_config_without_secret(loaded: Loaded, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(show.toml(loaded))
    again = load(Overrides(file=path), {})
    assert flat(again.config) == flat(loaded.config) | {"server.token": None}
    assert f'# server.token = "{HIDDEN}"' in path.read_text()
    assert HIDDEN not in show.toml(load(environ={}))


def test_toml_output_has_consents_in_comments_only(tmp_path: Path) -> None:
    said = {"server.insecure": True, "server.http_host": "0.0.0.0", "tempest.insecure": True}
    text = show.toml(load(Overrides(settings=Layer(COMMAND_LINE, said)), {}))
    assert "# server.insecure = true\n" in text
    assert '# server.http_host = "0.0.0.0"\n' in text
    (tmp_path / "a.toml").write_text(text)
    again = flat(load(Overrides(file=tmp_path / "a.toml"), {}).config)
    assert {key: again[key] for key in said} == {key: all_settings()[key].default for key in said}


def test_every_output_format_masks_secrets(loaded: Loaded) -> None:
    for text in (_table(loaded), show.to_json(loaded), show.toml(loaded)):
        assert SECRET not in text
        assert HIDDEN in text
