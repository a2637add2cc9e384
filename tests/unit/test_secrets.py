"""Tokens in files, as containers get them."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.load import ConfigError, config_from, to_toml
from config.models import Config
from config.secrets import KEYS, with_secrets
from tests.support.dotted import dotted


def config_with(**values: object) -> Config:
    return config_from(dotted(values))


def secret(config: Config, key: str) -> str | None:
    value = getattr(config.server, key.partition(".")[2])
    return value.get_secret_value() if value else None


@pytest.mark.parametrize("key", KEYS)
def test_token_is_read_from_file_and_hidden_in_repr(key: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("open sesame ü\r\n")
    config = config_with(**{f"{key}_file": str(path)})
    assert secret(config, key) is None
    found = with_secrets(config)
    assert secret(found, key) == "open sesame ü"
    assert "sesame" not in repr(found) + to_toml(found)
    other = next(k for k in KEYS if k != key)
    assert secret(found, other) is None
    assert with_secrets(config_with()) == config_with()


@pytest.mark.parametrize("key", KEYS)
def test_token_file_missing_error_names_absolute_path(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        with_secrets(config_with(**{f"{key}_file": "secrets/word"}))
    expected = f"{key}_file: cannot read {tmp_path / 'secrets/word'}: No such file or directory"
    assert str(caught.value) == expected


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "on one line"),
        (b" \n", "on one line"),
        (b"two\nlines", "on one line"),
        (b"x" * 5000, "on one line"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_token_file_with_invalid_content_raises(
    key: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        with_secrets(config_with(**{f"{key}_file": str(path)}))
    assert f"{key}_file" in str(caught.value)
    assert str(path) in str(caught.value)
    assert "xxxx" not in str(caught.value)


@pytest.mark.parametrize("key", KEYS)
def test_token_and_token_file_both_set_raises(key: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("from the file")
    with pytest.raises(ConfigError, match="both set") as caught:
        with_secrets(config_with(**{key: "by the variable", f"{key}_file": str(path)}))
    assert "by the variable" not in str(caught.value)


def test_token_too_short_raises_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("short")
    with pytest.raises(ConfigError, match="control_token: expected text") as caught:
        with_secrets(config_with(server__control_token_file=str(path)))
    assert "short" not in str(caught.value).replace(str(path), "")
