"""A running run's configuration with some live settings changed, and what that changes."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from config import renamed
from config.fields import all_settings, flat, nearest
from config.load import ConfigError, Layer, combine
from config.models import Config

SOURCE = "change"


@dataclass(frozen=True, slots=True)
class Change:
    """One field that was changed. The values are as TOML and JSON know them."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        setting = all_settings()[self.key]
        return f"{self.key}: {setting.show(self.old)} -> {setting.show(self.new)}"


def changed(config: Config, values: Mapping[str, Any]) -> tuple[Config, list[Change]]:
    """The configuration with these values, and what that changes: all of them, or an error.

    Values go by key. A schedule's name (`expert.ratio`) stands for its start and its end: the value
    holds from now on, whatever the frame. Errors: ConfigError for a key that does not exist or
    cannot be changed, and for a value that does not fit, alone or with the others.
    """
    wrong, by_key = [], {}
    for name, value in values.items():
        keys, problem = _keys(name)
        if problem:
            wrong.append(problem)
        for key in keys:
            if key in by_key:
                wrong.append(f"{SOURCE}: {key}: set twice; leave one of them out")
            by_key[key] = value
    if wrong:
        raise ConfigError("\n".join(wrong))
    layers = [Layer("run", flat(config)), Layer(SOURCE, by_key)]
    new = combine(layers).config
    before, after, known = flat(config), flat(new), all_settings()
    return new, [
        Change(key, known[key].plain(before[key]), known[key].plain(after[key]))
        for key in by_key
        if before[key] != after[key]
    ]


def games_told(config: Config, values: Mapping[str, Any]) -> tuple[Config, list[Change]]:
    """The configuration with these among the settings for the games (`server.settings`), and what
    that changes: of those settings alone. The others stay: a game cannot be told to forget one.
    Errors: ConfigError."""
    before = config.server.settings
    layers = [
        Layer("run", flat(config)),
        Layer(SOURCE, {"server.settings": before | dict(values)}),
    ]
    new = combine(layers).config
    after = new.server.settings
    news = {n: after[n] for n in values if n not in before or before[n] != after[n]}
    olds = {n: before[n] for n in news if n in before}
    return new, [Change("server.settings", olds, news)] if news else []


def parse(words: Sequence[str]) -> dict[str, Any]:
    """The values in words such as `expert.ratio=0.2`, for `changed`. Errors: ConfigError for a word
    that says nothing; what its key means is not looked at."""
    values: dict[str, Any] = {}
    known = all_settings()
    for key, text in _pairs(words):
        # A schedule's number is read as its start is.
        setting = known.get(key) or known.get(f"{key}.start")
        values[key] = setting.read(text) if setting else text
    return values


def parse_games(words: Sequence[str]) -> dict[str, Any]:
    """The values in words such as `start_level=3`, for `games_told`: TOML, or else text. Errors:
    ConfigError for a word that says nothing."""
    values: dict[str, Any] = {}
    for key, text in _pairs(words):
        values[key] = text
        with contextlib.suppress(tomllib.TOMLDecodeError):
            table = tomllib.loads(f"value = {text}")
            if list(table) == ["value"]:
                values[key] = table["value"]
    return values


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Key and text of each word KEY=VALUE. Errors: ConfigError for a word that is none, and for a
    key that comes twice."""
    seen = set()
    for word in words:
        key, equals, text = word.partition("=")
        if not (key and equals):
            raise ConfigError(f"{SOURCE}: expected KEY=VALUE, got {word!r}")
        if key in seen:
            raise ConfigError(f"{SOURCE}: {key}: set twice; leave one of them out")
        seen.add(key)
        yield key, text


def live_names() -> list[str]:
    """What can be changed while a run runs, for people: keys, and where all of a group or of a
    schedule can be, its name (`expert.*`)."""
    settings = all_settings().values()
    names: dict[str, None] = {}
    for setting in settings:
        if setting.live:
            parts = setting.key.split(".")
            outer = [".".join(parts[:length]) + "." for length in range(1, len(parts))]
            whole = (
                each
                for each in outer
                if all(one.live for one in settings if one.key.startswith(each))
            )
            widest = next(whole, None)
            names[setting.key if widest is None else f"{widest}*"] = None
    return list(names)


def _keys(name: str) -> tuple[list[str], str]:
    """The fields that a name stands for, or what is wrong with it."""
    known = all_settings()
    if renamed_to := renamed.hint(name):
        return [], f"{SOURCE}: {renamed_to}"
    keys = [name] if name in known else [f"{name}.start", f"{name}.end"]
    if any(key not in known for key in keys):
        meant = nearest(name, [*known, *_schedules()])
        hint = f" (did you mean {meant}?)" if meant else ""
        return [], f"{SOURCE}: {name}: there is no such setting{hint}"
    if not all(known[key].live for key in keys):
        return [], (
            f"{SOURCE}: {name}: cannot be changed while the run runs; stop it and resume it with "
            f"the new value (--resume). Live settings: {', '.join(live_names())}"
        )
    return keys, ""


def _schedules() -> list[str]:
    return [key.removesuffix(".start") for key in all_settings() if key.endswith(".start")]
