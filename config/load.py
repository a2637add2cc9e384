"""From defaults, files, environment and command line to one Config, and where each value is from.

    defaults < preset < the resumed run's < file < environment < command line

A setting that only makes sense with a preset selects it, unless another is named (`IMPLIED`).

Each source becomes a `Layer` of values by key; the last one that has a key wins; the result is
validated once, as a whole. (pydantic-settings has sources too, but its environment source passes
over groups that it does not know, and its command line forgets which option a value came from.)
"""

from __future__ import annotations

import functools
import os
import re
import tomllib
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from config import renamed
from config.fields import HIDDEN, all_settings, flat, nearest, nested, variable_of
from config.models import NONE, Config
from config.passing import ConfigError as ConfigError
from config.passing import InUse as InUse
from config.passing import TryAgain

PREFIX = "UNDERSTUDY_"
EFFECTIVE = "config.toml"
"""The name of the effective configuration in a run's folder."""

IMPLIED = {"tempest.port": "tempest"}
"""The preset of a setting: where it has a value, and no preset is named."""

RUN_DIR = "run.dir"
"""Not saved either: a run's folder may be moved, and its configuration used for another run."""

COMMAND_LINE = "command line"
"""The source of options, as messages call it."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source sets."""

    name: str
    """The source in words: "file understudy.toml"."""
    values: Mapping[str, Any]
    """Value by key."""
    given_as: Mapping[str, str] = field(default_factory=dict)
    """For some keys, the option or variable: "--port"."""

    def with_value(self, key: str, value: Any, given_as: str) -> Layer:
        """A layer with this value too, in place of an earlier one."""
        return Layer(self.name, {**self.values, key: value}, {**self.given_as, key: given_as})

    def origin(self, key: str) -> str:
        return f"{self.name} {self.given_as[key]}" if key in self.given_as else self.name


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, and for each key the source of its value."""

    config: Config
    origins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a command line says of the configuration; `config.options` makes it."""

    preset: str | None = None
    resume: Path | None = None
    file: Path | None = None
    settings: Layer = Layer(COMMAND_LINE, {})
    """The settings among its options."""


def load(given: Overrides | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """The configuration from all sources. ConfigError if any of them is wrong."""
    given = given or Overrides()
    layers: list[Layer] = []
    if given.resume is not None:
        layers.append(run_layer(given.resume))
    if given.file is not None:
        layers.append(file_layer(given.file, f"file {given.file}"))
    layers.append(environment_layer(environ))
    layers.append(_command_line(given))
    preset = given.preset or _implied(layers)
    return combine([*([preset_layer(preset)] if preset else []), *layers])


def config_from(
    values: Mapping[str, Any], *, preset: str | None = None, source: str = "values"
) -> Config:
    """The configuration with these values by key, over a preset or the defaults, for a caller that
    has them in a program: neither environment nor command line has a say. `source`: what messages
    call them. Errors: ConfigError."""
    return load(Overrides(preset=preset, settings=Layer(source, values)), {}).config


def config_of_run(folder: Path) -> Config:
    """The configuration of the run in this folder, as `--resume` takes it, without the environment.
    Errors: ConfigError where there is no run."""
    return load(Overrides(resume=folder), {}).config


def _implied(layers: Sequence[Layer]) -> str | None:
    """The preset that the settings bring along."""
    values = ChainMap(*(dict(layer.values) for layer in reversed(layers)))
    return next((p for key, p in IMPLIED.items() if values.get(key, NONE) != NONE), None)


def combine(layers: Sequence[Layer]) -> Loaded:
    """Defaults, and the layers over them, the last one uppermost."""
    values = {key: setting.default for key, setting in all_settings().items()}
    origins = dict.fromkeys(values, "default")
    for layer in layers:
        for key, value in layer.values.items():
            values[key], origins[key] = value, layer.origin(key)
    try:
        return Loaded(Config.model_validate(nested(values)), origins)
    except ValidationError as error:
        wrong = [_explain(dict(one), origins) for one in error.errors(include_url=False)]
    # Outside the handler, so that no trace shows the values that pydantic quotes. One line for
    # each key: what is wrong inside a list is often followed by what that does to the list.
    lines: dict[str, str] = {}
    for key, line in wrong:
        lines.setdefault(key, line)
    raise ConfigError("\n".join(lines.values()))


@functools.cache
def presets() -> Mapping[str, str]:
    """The text of each preset by its name."""
    folder = resources.files("config") / "presets"
    found = (entry for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in sorted(found, key=lambda entry: entry.name)
    }


def preset_layer(name: str) -> Layer:
    """The preset of this name."""
    known = presets()
    if name not in known:
        raise ConfigError(
            f"there is no preset {name!r}{_hint(name, known)}; the presets are {', '.join(known)}"
        )
    return toml_layer(known[name], f"preset {name}")


def run_layer(folder: Path) -> Layer:
    """The configuration that a run has in its folder, under today's names. A consent in it is left
    out: an older version saved it, and it was meant for that start."""
    if not folder.is_dir():
        text = f"cannot resume {folder}: there is no such folder; name that of a run"
        if folder.absolute().parent.is_dir():
            raise ConfigError(text)
        # Nor one that it could be in: what is mounted there may not be there yet.
        raise TryAgain(f"{text}, or mount what has {folder.absolute().parent}")
    if not (folder / EFFECTIVE).is_file():
        raise ConfigError(
            f"cannot resume {folder}: expected a run's folder, with a {EFFECTIVE} in it; "
            "a run's folder is printed when it starts"
        )
    layer = file_layer(folder / EFFECTIVE, f"run {folder}", old_names=True)
    known = all_settings()
    return Layer(
        layer.name,
        {k: value for k, value in layer.values.items() if known[k].saved or known[k].secret},
    )


def unsaved(config: Config) -> list[str]:
    """The keys that have a value here and that a run does not save: the next start is told anew."""
    known, values = all_settings(), flat(config)
    return [key for key in known if not known[key].saved and values[key] != known[key].default]


def unsaved_in(folder: Path) -> list[str]:
    """Those keys in the configuration of a run, which an older version saved. Errors:
    ConfigError."""
    layer = file_layer(folder / EFFECTIVE, f"run {folder}", old_names=True)
    known = all_settings()
    return [
        key
        for key, value in layer.values.items()
        if not known[key].saved and value not in (known[key].default, NONE)
    ]


def file_layer(path: Path, name: str, *, old_names: bool = False) -> Layer:
    """A TOML file (`toml_layer`)."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{name}: cannot read {path}: {reason}") from None
    return toml_layer(text, name, old_names=old_names)


def toml_layer(text: str, name: str, *, old_names: bool = False) -> Layer:
    """The values in a TOML text; every table and key must be one of the models'. `old_names`: keys
    may also have an earlier name (`config.renamed`), as in the configuration of an older run."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: expected TOML: {error}") from None
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for key, value in _leaves(tree, "", name, wrong):
        if key not in renamed.KEYS:
            values[key] = all_settings()[key].guard(value)
        elif old_names:
            new, value = renamed.current(key, value)
            values.setdefault(new, value)
        else:
            wrong.append(f"{name}: {renamed.hint(key)}; rename it")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return Layer(name, values)


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """The variables that begin with UNDERSTUDY_; one that sets nothing is refused."""
    by_variable = {setting.variable: setting for setting in all_settings().values()}
    now_called = {variable_of(old): variable_of(new) for old, new in renamed.KEYS.items()}
    values: dict[str, Any] = {}
    given_as: dict[str, str] = {}
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        setting = by_variable.get(variable)
        if setting is None:
            if new := now_called.get(variable):
                raise ConfigError(f"environment {variable} is now {new}; rename it")
            raise ConfigError(
                f"environment {variable}: there is no such setting"
                f"{_hint(variable, by_variable)}; correct or unset it"
            )
        values[setting.key], given_as[setting.key] = setting.read(environ[variable]), variable
    return Layer("environment", values, given_as)


def to_toml(config: Config, *, absolute: bool = False) -> str:
    """Every value that a run saves, as TOML that `file_layer` reads back: no secret, no consent.
    `absolute`: files that there are with their whole paths, for a reader in another working
    directory."""
    known = all_settings()
    saved = {
        key: known[key].plain(_whole(value) if absolute else value)
        for key, value in flat(config).items()
        if known[key].saved and key != RUN_DIR
    }
    return tomli_w.dumps(nested(saved))


def _whole(value: Any) -> Any:
    """The whole path of a file. One that is not there stays as it was said: it was meant from
    somewhere else."""
    return value.absolute() if isinstance(value, Path) and value.exists() else value


def unknown_option(option: str, known: Sequence[str]) -> ConfigError:
    """The error for an option that does not exist."""
    name = option.partition("=")[0]
    dashes = "--no-" if name.startswith("--no-") else "--"
    if new := renamed.KEYS.get(name.removeprefix(dashes)):
        return ConfigError(f"command line {name} is now {dashes}{new}; rename it")
    return ConfigError(
        f"command line {name}: there is no such option{_hint(name, known)}; --help lists them"
    )


def _command_line(given: Overrides) -> Layer:
    settings = given.settings
    if given.resume is None:
        return settings
    folder = settings.values.get("run.dir")
    if folder is not None and Path(folder) != given.resume:
        raise ConfigError(
            f"{settings.origin('run.dir')} {folder}: --resume {given.resume} uses the folder of "
            "the run that it resumes; leave one of them out"
        )
    return settings.with_value("run.dir", str(given.resume), "--resume")


def _leaves(
    tree: Mapping[str, Any], prefix: str, source: str, wrong: list[str]
) -> Iterator[tuple[str, Any]]:
    """Key and value of each setting in a tree of tables, under the name that it has there, be it
    today's or an earlier one. What is no setting goes to `wrong`, in words."""
    known = all_settings()
    for name, value in tree.items():
        key = prefix + name
        if key in known or key in renamed.KEYS:
            yield key, value
        elif not any(setting.startswith(key + ".") for setting in known):
            # Below an unknown table each key has a nearest one of its own.
            inner = [f"{key}.{part}" for part in value] if isinstance(value, dict) else [key]
            wrong.extend(
                f"{source}: {one}: there is no such setting{_hint(one, known)}; correct or "
                "remove it"
                for one in inner or [key]
            )
        elif isinstance(value, dict):
            yield from _leaves(value, key + ".", source, wrong)
        else:
            wrong.append(f"{source}: {key}: expected a table of settings, got {value!r}")


def _explain(error: Mapping[str, Any], origins: Mapping[str, str]) -> tuple[str, str]:
    """One error of pydantic as key and line: source, key, what was expected, what came."""
    place = [str(part) for part in error["loc"]]
    reason = str(error["ctx"]["error"]) if error["type"] == "value_error" else ""
    starts = (".".join(place[:length]) for length in range(len(place), 0, -1))
    key = next((start for start in starts if start in origins), None)
    if key is None:
        # A combination: the message names the keys, here follows who set them.
        named = [k for k in re.findall(r"[a-z_]+(?:\.[a-z_]+)+", reason) if k in origins]
        return reason, f"{reason} ({', '.join(f'{k}: {origins[k]}' for k in named)})"
    inside = "".join(f"[{part}]" for part in place[key.count(".") + 1 :] if part != "[key]")
    where = f"{origins[key]}: {key}{inside}"
    if reason:
        return key, f"{where}: {reason}"
    setting = all_settings()[key]
    came = HIDDEN if setting.secret else repr(error["input"])
    return key, f"{where}: expected {setting.expected}, got {came}; correct or remove it"


def _hint(word: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    meant = nearest(word, known)
    return f" (did you mean {meant}?)" if meant else ""
