"""The configuration as options of a command: every field, dotted, grouped, with unit and default.

parser = subparsers.add_parser("serve")
add_arguments(parser)
loaded = load(given(parse(parser, argv)))
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from config.fields import Setting, all_settings, groups
from config.load import COMMAND_LINE, Layer, Overrides, presets, unknown_option

SHORT = {
    "port": "server.port",
    "tempest-port": "tempest.port",
    "run": "run.dir",
    "seed": "run.seed",
    "train": "trainer.enabled",
    "insecure": "server.insecure",
}
"""Short forms: option without its dashes -> key. A switch gets a --no- form as well."""

_METAVAR = {bool: "", int: "N", float: "X", str: "TEXT", tuple: "LIST", dict: "TABLE", Path: "PATH"}


def add_arguments(
    parser: argparse.ArgumentParser,
    *,
    short: Mapping[str, str] = SHORT,
    preset: str | None = None,
) -> None:
    """Add --config, --preset, --resume and an option for every field to a command's parser.

    `short` maps further spellings to keys; `preset` is used where --preset is not given.
    Abbreviations are switched off: a new field must not change what an old script means.
    """
    parser.allow_abbrev = False
    if parser.usage is None:
        parser.usage = "%(prog)s [options]"
    # The settings that are given: the actions of their options add to it.
    parser.set_defaults(config_settings=Layer(COMMAND_LINE, {}))
    sources = parser.add_argument_group(
        "configuration",
        "Every setting below can also stand in a TOML file ([server] port = 7000) and in the "
        "environment (UNDERSTUDY_SERVER__PORT=7000). What comes later wins: default, preset, the "
        "resumed run's, file, environment, command line.",
    )
    sources.add_argument(
        "--preset",
        dest="config_preset",
        metavar="NAME",
        default=preset,
        help=f"start from a preset: {', '.join(presets())} [default {preset or 'none'}]",
    )
    sources.add_argument(
        "--resume",
        dest="config_resume",
        metavar="DIR",
        type=Path,
        help="resume the run in this folder, with its settings",
    )
    sources.add_argument(
        "--config",
        dest="config_file",
        metavar="FILE",
        type=Path,
        help="read settings from this TOML file",
    )
    spellings: dict[str, list[str]] = {}
    for word, key in short.items():
        spellings.setdefault(key, []).append(word)
    for name, about in groups().items():
        group = parser.add_argument_group(name, about)
        for key, setting in all_settings().items():
            if key.startswith(name + "."):
                _option(group, setting, [*spellings.get(key, []), key])


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """`parser.parse_args`, but an unknown option is a ConfigError with the nearest known one."""
    args, rest = parser.parse_known_args(argv)
    for word in rest:
        if word.startswith("--"):
            raise unknown_option(word, list(_all_options(parser)))
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def given(args: argparse.Namespace) -> Overrides:
    """What the parsed command line says of the configuration, for `config.load.load`."""
    return Overrides(
        preset=args.config_preset,
        resume=args.config_resume,
        file=args.config_file,
        settings=args.config_settings,
    )


class _Set(argparse.Action):
    """One field; for a switch, --name and --no-name."""

    def __init__(self, *args: Any, setting: Setting, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.setting = setting

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        option = str(option_string)
        switch = self.setting.kind is bool
        value = not option.startswith("--no-") if switch else self.setting.read(values)
        # A new layer: the old one may be the parser's default, which all its namespaces share.
        earlier: Layer = namespace.config_settings
        namespace.config_settings = earlier.with_value(self.setting.key, value, option)


def _option(group: argparse._ArgumentGroup, setting: Setting, words: Iterable[str]) -> None:
    plain = [f"--{word}" for word in words]
    switch = setting.kind is bool
    detail = f"{setting.unit}, default" if setting.unit else "default"
    group.add_argument(
        *plain,
        *([f"--no-{word[2:]}" for word in plain] if switch else []),
        action=_Set,
        setting=setting,
        nargs=0 if switch else None,
        metavar=None if switch else _METAVAR.get(setting.kind, "TEXT"),
        default=argparse.SUPPRESS,
        help=f"{setting.description} [{detail} {setting.show(setting.default)}]".replace("%", "%%"),
    )


def _all_options(parser: argparse.ArgumentParser) -> Iterable[str]:
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _all_options(inner)
