"""Tokens that are kept in files: how a container gets its secrets."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from config.fields import flat
from config.load import ConfigError, Layer, combine
from config.models import Config

KEYS = ("server.token", "server.control_token")
"""Each has a sibling `<key>_file`."""

MOST_BYTES = 4096


def with_secrets(config: Config) -> Config:
    """The configuration with what its token files hold. Errors: ConfigError for a file that cannot
    be read or holds no token, and where a token is given in both ways."""
    values = flat(config)
    layers = [Layer("configuration", values)]
    for key in KEYS:
        path: Path | None = values[f"{key}_file"]
        if path is None:
            continue
        if values[key] is not None:
            raise ConfigError(
                f"{key} and {key}_file are both set; leave one of them out, or set it to none"
            )
        token = SecretStr(_read(path, f"{key}_file"))
        layers.append(Layer(f"file {path}", {key: token}))
    return combine(layers).config


def _read(path: Path, key: str) -> str:
    path = path.absolute()  # for the messages: which file was looked at
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{key}: cannot read {path}: {reason}") from None
    if not text or len(text) > MOST_BYTES or "\n" in text:
        raise ConfigError(f"{key}: expected {path} to hold a token on one line")
    return text
