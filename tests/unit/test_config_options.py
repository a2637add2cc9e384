"""The options of a command, and its help."""

from __future__ import annotations

import argparse
import re

import pytest

from config.fields import all_settings, groups
from config.load import ConfigError, load
from config.options import add_arguments, given, parse


def _parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="understudy")
    commands = root.add_subparsers(dest="command")
    add_arguments(commands.add_parser("serve"))
    demo = commands.add_parser("demo")
    add_arguments(demo, preset="demo", short={"seed": "run.seed"})
    demo.add_argument("--clients", type=int)
    return root


def test_short_options_set_their_settings() -> None:
    args = parse(_parser(), ["serve", "--port", "7000", "--run", "r", "--no-train"])
    loaded = load(given(args), {})
    assert loaded.config.server.port == 7000
    assert str(loaded.config.run.dir) == "r"
    assert loaded.config.trainer.enabled is False
    assert loaded.origins["trainer.enabled"] == "command line --no-train"
    again = load(given(parse(_parser(), ["serve", "--no-train", "--train"])), {})
    assert again.config.trainer.enabled is True


def test_command_default_preset_and_own_options_apply() -> None:
    args = parse(_parser(), ["demo", "--seed", "3", "--clients", "2"])
    loaded = load(given(args), {})
    assert (loaded.origins["run.seed"], args.clients) == ("command line --seed", 2)
    assert loaded.origins["trainer.threads"] == "preset demo"
    other = load(given(parse(_parser(), ["demo", "--preset", "bench"])), {})
    assert other.origins["trainer.threads"] == "preset bench"


def test_parser_reused_keeps_no_values_of_previous_parse() -> None:
    parser = _parser()
    parse(parser, ["serve", "--port", "1", "--preset", "demo"])
    second = given(parse(parser, ["serve"]))
    assert (second.settings.values, second.preset) == ({}, None)


def test_unknown_option_error_suggests_nearest() -> None:
    for words in (["--server.prot", "1"], ["--server.prot=1"]):
        with pytest.raises(ConfigError, match=r"--server\.prot: .*did you mean --server\.port\?"):
            parse(_parser(), ["serve", *words])
    with pytest.raises(ConfigError, match=r"--cleints: .*did you mean --clients\?"):
        parse(_parser(), ["demo", "--cleints", "1"])


def test_abbreviated_option_raises() -> None:
    with pytest.raises(ConfigError, match=r"--server\.por: "):
        parse(_parser(), ["serve", "--server.por", "1"])


def test_stray_positional_argument_exits_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(_parser(), ["serve", "stray"])
    assert caught.value.code == 2
    assert "stray" in capsys.readouterr().err


def test_negative_number_is_parsed_as_option_value() -> None:
    with pytest.raises(ConfigError, match=r"--trainer.nice: trainer.nice.* got -5"):
        load(given(parse(_parser(), ["serve", "--trainer.nice", "-5"])), {})


def test_help_describes_every_setting_and_section(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")  # no word is broken at a hyphen
    with pytest.raises(SystemExit):
        _parser().parse_args(["serve", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    for key, setting in all_settings().items():
        metavar = r",( --no-\S+)+" if setting.kind is bool else r" [A-Z]+"
        detail = f"{setting.unit}, default" if setting.unit else "default"
        about = f" {setting.description} [{detail} {setting.show(setting.default)}]"
        assert re.search(f" --{key}{metavar}{re.escape(about)}", words), key
    for name, about in groups().items():
        assert f"{name}: {about}" in words
    for option in ("--port N, --server.port N", "--train, --trainer.enabled, --no-train"):
        assert option in words
