"""Sources of values: which one wins, where each value came from, and what is refused."""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import traceback
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from config import load as loading
from config.fields import all_settings, flat, nearest, nested
from config.load import (
    IMPLIED,
    ConfigError,
    Loaded,
    Overrides,
    config_from,
    config_of_run,
    load,
    to_toml,
    unsaved,
    unsaved_in,
)
from config.models import NONE, Config
from config.options import add_arguments, given, parse
from server.run.directory import write_effective
from tests.support.cases import for_each

OTHER: dict[str, Any] = {
    "run.dir": "somewhere/run",
    "run.seed": 7,
    "server.host": "0.0.0.0",
    "server.token": "open sesame",
    "server.token_file": "some/secret",
    "server.control_token": "shut sesame",
    "server.control_token_file": "another/secret",
    "server.tls_cert": "some/chain.pem",
    "server.tls_key": "some/key.pem",
    "server.max_clients_per_address": 9,
    "server.max_frames_per_address": 9,
    "server.log_format": "json",
    "server.http_host": "0.0.0.0",
    "server.http_names": ["understudy", "training.example"],
    "server.device": "cuda:1",
    "server.settings": {"level": 3, "names": ["a", 'q"uo\nte', "ü"], "deep": {"x": True}},
    "server.websocket_port": 7780,
    "server.websocket_origins": ["https://games.example", "http://localhost:3000"],
    "tempest.port": 9999,
    "tempest.host": "0.0.0.0",
    "tempest.zap_gate.start": 0.5,
    "tempest.zap_gate.end": 0.25,
    "tempest.reply_bytes": 3,
    "tempest.skip": ["attract"],
    "tempest.eval_every": 9,
    "tempest.eval_expert_every": 9,
    "run.game": "Pong",
    "tempest.spinner": "levels",
    "expert.plugin": "package.module:function",
    "reward.weights": {"score": 0.01, "life": -1.0},
    "reward.clip": 10.0,
    "expert.decay": "evaluation",
    "expert.unit": "episode",
    "lessons.plan": [{"metric": "episode_return_mean", "above": 9, "settings": {"level": 2}}],
    "replay.device": "cpu",
    "replay.actor_share": {"expert": 0.25},
    "learner.hidden": [64, 32],
    "learner.cosine_updates": 9,
    "learner.value": "c51",
    "learner.continuous": "bins",
    "learner.memory": "gru",
    "learner.trunk": "linear",
    "learner.precision": "bfloat16",
    "learner.target": "hard",
    "imitation.decay": "evaluation",
    "imitation.rows": "expert",
    "imitation.loss": "cross_entropy",
    "imitation.taken": 0.5,
    "advantage.signal": "return",
    "advantage.mode": "global",
    "advantage.applies_to": ["continuous", "td"],
    "advantage.actor_factor": {"dqn": 0.5},
    "trainer.device": "cpu",
    "trainer.max_lag_updates": 9,
    "checkpoint.keep_every_updates": 9,
    "server.max_game_bytes": 2**21,
    "health.on_divergence": "stop",
    "cluster.gpus_per_learner": 0.5,
    "cluster.ack": "synced",
    "cluster.allreduce": "bfloat16",
}
"""A value other than the default, where one cannot be worked out."""


def _other(key: str) -> Any:
    setting = all_settings()[key]
    if key in OTHER:
        return OTHER[key]
    if setting.kind is bool:
        return not setting.default
    return setting.default + 1 if setting.kind is int else setting.default / 2


def _in_config(key: str, value: Any) -> Any:
    """A value of a source as the config holds it."""
    if all_settings()[key].kind is Path:
        return Path(value)
    return tuple(value) if all_settings()[key].kind is tuple else value


def _command(*argv: str) -> Overrides:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return given(parse(parser, argv))


def _write(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(tomli_w.dumps(nested(values)), encoding="utf-8")
    return path


def _value(loaded: Loaded, key: str) -> Any:
    value = flat(loaded.config)[key]
    return value.get_secret_value() if all_settings()[key].secret and value else value


@functools.cache
def _base(preset: str | None) -> Loaded:
    return load(Overrides(preset=preset), {})


def _check_only_this_key_set(loaded: Loaded, key: str, origin: str) -> None:
    """One key has its other value, from there; all others their defaults, or those of the preset
    that the key brings along."""
    base = _base(IMPLIED.get(key))
    assert _value(loaded, key) == _in_config(key, _other(key))
    assert _value(loaded, key) != all_settings()[key].default
    assert loaded.origins == dict(base.origins) | {key: origin}
    rest = {k: v for k, v in flat(loaded.config).items() if k != key}
    assert rest == {k: v for k, v in flat(base.config).items() if k != key}


# Every field from every source


def _toml(value: Any) -> str:
    """A value in TOML, as somebody would write it in a shell."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    return tomli_w.dumps({"v": value}).removeprefix("v = ").strip()


@for_each(all_settings())
def test_setting_from_file_overrides_default(key: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "understudy.toml", {key: _other(key)})
    _check_only_this_key_set(load(Overrides(file=path), {}), key, f"file {path}")


@for_each(all_settings(), [json.dumps, _toml])
def test_setting_from_environment_overrides_default(key: str, dumps: Any) -> None:
    value, setting = _other(key), all_settings()[key]
    text = value if isinstance(value, str) else dumps(value)
    _check_only_this_key_set(
        load(environ={setting.variable: text}), key, f"environment {setting.variable}"
    )


@for_each(all_settings())
def test_setting_from_command_line_overrides_default(key: str) -> None:
    value, option = _other(key), f"--{key}"
    if isinstance(value, bool):
        option = option if value else f"--no-{key}"
        argv = [option]
    else:
        argv = [option, value if isinstance(value, str) else json.dumps(value)]
    _check_only_this_key_set(load(_command(*argv), {}), key, f"command line {option}")


@for_each([k for k, setting in all_settings().items() if setting.default is None])
def test_optional_setting_set_to_none_from_every_source(key: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.toml", {key: _other(key)})
    variable = all_settings()[key].variable
    assert _value(load(Overrides(file=path), {variable: NONE}), key) is None
    assert _value(load(_command("--config", str(path), f"--{key}", NONE), {}), key) is None
    none = _write(tmp_path / "b.toml", {key: NONE})
    assert _value(load(Overrides(file=none), {}), key) is None
    above = {variable: str(_other(key))}
    assert _value(load(Overrides(file=none), above), key) == _in_config(key, _other(key))


# Which source wins

PORTS = {
    "preset p": 1,
    "run {run}": 2,
    "file {file}": 3,
    "environment UNDERSTUDY_SERVER__PORT": 4,
    "command line --port": 5,
}


@pytest.mark.parametrize(
    "present", [s for n in range(6) for s in itertools.combinations(PORTS, n)], ids="+".join
)
def test_several_sources_highest_precedence_wins(
    present: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, file = tmp_path / "run", tmp_path / "f.toml"
    run.mkdir()
    monkeypatch.setattr(loading, "presets", lambda: {"p": "[server]\nport = 1"})
    _write(run / "config.toml", {"server.port": 2})
    _write(file, {"server.port": 3})
    argv: list[str] = []
    for source, words in (
        ("preset p", ["--preset", "p"]),
        ("run {run}", ["--resume", str(run)]),
        ("file {file}", ["--config", str(file)]),
        ("command line --port", ["--port", "5"]),
    ):
        argv += words if source in present else []
    environ = {"UNDERSTUDY_SERVER__PORT": "4"} if "environment" in "".join(present) else {}
    loaded = load(_command(*argv), environ)
    winner = present[-1] if present else "default"
    assert loaded.config.server.port == PORTS.get(winner, 7777)
    assert loaded.origins["server.port"] == winner.format(run=run, file=file)


def test_sources_merge_within_section_but_not_within_table_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "presets", lambda: {"p": "[expert.ratio]\nframes = 9"})
    path = _write(tmp_path / "a.toml", {"expert.ratio.start": 0.3, "reward.weights": {"a": 1}})
    argv = _command("--preset", "p", "--config", str(path), "--expert.ratio.end", ".1")
    loaded = load(argv, {"UNDERSTUDY_REWARD__WEIGHTS": "{b = 2}"})
    ratio = loaded.config.expert.ratio
    assert (ratio.start, ratio.end, ratio.frames) == (0.3, 0.1, 9)
    # A table of values is one setting.
    assert loaded.config.reward.weights == {"b": 2}


# A run's own configuration


def _load_all_settings_changed(tmp_path: Path) -> Loaded:
    path = _write(tmp_path / "all.toml", {key: _other(key) for key in all_settings()})
    return load(Overrides(file=path), {})


def test_effective_config_saved_then_resumed_equal_without_secrets(tmp_path: Path) -> None:
    first = _load_all_settings_changed(tmp_path)
    path = write_effective(first.config, tmp_path)
    assert path == tmp_path / "config.toml"
    second = load(Overrides(resume=tmp_path), {})
    secrets = [key for key, setting in all_settings().items() if setting.secret]
    assert secrets == ["server.token", "server.control_token"]
    consents = [key for key, one in all_settings().items() if not (one.saved or one.secret)]
    assert consents == [
        "server.insecure",
        "server.http_host",
        "tempest.insecure",
        "cluster.insecure",
    ]
    told_anew = [*secrets, *consents]
    defaults = {key: all_settings()[key].default for key in told_anew}
    assert flat(second.config) == flat(first.config) | defaults | {"run.dir": tmp_path}
    origins = dict.fromkeys(all_settings(), f"run {tmp_path}")
    origins |= dict.fromkeys(told_anew, "default") | {"run.dir": "command line --resume"}
    assert second.origins == origins
    assert sorted(unsaved(first.config)) == sorted(told_anew)


def test_consent_in_config_of_an_older_run_does_not_count(tmp_path: Path) -> None:
    consents = {"server.insecure": True, "server.http_host": "0.0.0.0", "tempest.insecure": True}
    _write(tmp_path / "config.toml", {"server.port": 1, **consents})
    loaded = load(Overrides(resume=tmp_path), {})
    for key in consents:
        assert loaded.origins[key] == "default"
    assert loaded.config.server.port == 1
    assert unsaved(loaded.config) == []
    assert sorted(unsaved_in(tmp_path)) == sorted(consents)
    _write(tmp_path / "config.toml", {"server.insecure": False, "server.http_host": "127.0.0.1"})
    assert unsaved_in(tmp_path) == []


@pytest.mark.parametrize("source", ["file", "environment", "command line"])
def test_consent_of_this_start_counts_on_resume(source: str, tmp_path: Path) -> None:
    write_effective(Config(), tmp_path)
    path = _write(tmp_path / "mine.toml", {"server.insecure": True})
    said = {
        "file": (["--config", str(path)], {}),
        "environment": ([], {"UNDERSTUDY_SERVER__INSECURE": "true"}),
        "command line": (["--insecure"], {}),
    }
    argv, environ = said[source]
    loaded = load(_command("--resume", str(tmp_path), *argv), environ)
    assert loaded.config.server.insecure
    assert loaded.origins["server.insecure"].startswith(source)


def test_resume_from_other_directory_keeps_relative_file_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [
        key for key, setting in all_settings().items() if setting.kind is Path and key != "run.dir"
    ]
    assert files == [
        f"server.{name}" for name in ("token_file", "tls_cert", "tls_key", "control_token_file")
    ]
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(here)
    (here / "word").touch()
    for place, named in (
        ("word", here / "word"),
        ("../here/word", here / "../here/word"),
        (str(here / "word"), here / "word"),
        ("not/there", Path("not/there")),  # perhaps it is, where the run was started first
    ):
        config = config_from(dict.fromkeys(files, place))
        write_effective(config, tmp_path)
        monkeypatch.chdir(elsewhere)
        resumed = flat(config_of_run(tmp_path))
        assert [resumed[key] for key in files] == [named] * len(files)
        # Only what a run keeps: a file that somebody is to put elsewhere says what was said.
        assert f'token_file = "{place}"' in to_toml(config)
        monkeypatch.chdir(here)
    write_effective(Config(), tmp_path)
    assert config_of_run(tmp_path).server.token_file is None


def test_resume_saved_none_overrides_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "presets", lambda: {"p": "[trainer]\nmax_lag_updates = 9"})
    write_effective(Config(), tmp_path)
    assert load(Overrides(preset="p"), {}).config.trainer.max_lag_updates == 9
    loaded = load(Overrides(preset="p", resume=tmp_path), {})
    assert loaded.config == Config.model_validate({"run": {"dir": tmp_path}})


def test_saved_config_loaded_as_file_has_no_run_dir(tmp_path: Path) -> None:
    path = write_effective(_load_all_settings_changed(tmp_path).config, tmp_path)
    assert load(Overrides(file=path), {}).config.run.dir is None


def test_resume_uses_run_directory_and_other_run_option_raises(tmp_path: Path) -> None:
    write_effective(Config(), tmp_path)
    environ = {"UNDERSTUDY_RUN__DIR": "elsewhere"}
    assert load(Overrides(resume=tmp_path), environ).config.run.dir == tmp_path
    same = _command("--resume", str(tmp_path), "--run", str(tmp_path))
    assert load(same, {}).config.run.dir == tmp_path
    with pytest.raises(ConfigError, match=r"--run other: --resume .* uses the folder"):
        load(_command("--resume", str(tmp_path), "--run", "other"), {})
    with pytest.raises(ConfigError, match="--run none"):
        load(_command("--resume", str(tmp_path), "--run", "none"), {})


def test_resume_invalid_run_directory_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot resume .*there is no such folder"):
        load(Overrides(resume=tmp_path / "no"), {})
    with pytest.raises(ConfigError, match=r"cannot resume .*with a config\.toml in it"):
        load(Overrides(resume=tmp_path), {})
    (tmp_path / "config.toml").write_text("[another]\nprogram = 1\n")
    with pytest.raises(ConfigError, match=r"^run .*: another\.program: there is no such setting"):
        load(Overrides(resume=tmp_path), {})


# What is refused, and how


def _message(given: Overrides | None = None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(given, environ or {})
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1", "server.prot: there is no such setting (did you mean server.port?)"),
        ("[servr]\nport = 1", "servr.port: there is no such setting (did you mean server.port?)"),
        ("port = 1", "port: there is no such setting (did you mean server.port?)"),
        ("[qqq]", "qqq: there is no such setting; correct or remove it"),
        ("[expert.ratio]\nbegin = 1", "expert.ratio.begin: there is no such setting"),
        ("server = 1", "server: expected a table of settings, got 1"),
        ("[expert]\nratio = 0.5", "expert.ratio: expected a table of settings, got 0.5"),
        ('[server]\nport = "7"', "server.port: expected a whole number from 0 to 65535, got '7'"),
        ("[server]\nport = 7.5", "expected a whole number from 0 to 65535, got 7.5"),
        ("[server]\nport = true", "expected a whole number from 0 to 65535, got True"),
        ("[server]\nport = 'none'", "expected a whole number from 0 to 65535, got 'none'"),
        ("[trainer]\nenabled = 1", "trainer.enabled: expected true or false, got 1"),
        ("[trainer]\nmin_steps = 0", "expected a whole number of at least 1, got 0"),
        ("[reward]\nclip = 0", "reward.clip: expected a number above 0, or none, got 0"),
        ("[learner]\ntarget = 'x'", "learner.target: expected soft or hard, got 'x'"),
        ("[advantage]\nmode = 'x'", "expected per_actor, global or off, got 'x'"),
        ("[learner]\ntarget_tau = 2", "expected a number above 0 and of at most 1, got 2"),
        ("[learner]\nhidden = [8, 'a']", "learner.hidden[1]: expected a list that is not empty"),
        ("[reward]\nweights = {a = 'x'}", "reward.weights[a]: expected a table, each a number"),
        ("[replay]\nactor_share = {dqm = 1}", "expected a table of dqn and expert, each a number"),
        ("[server]\ndevice = 'gpu'", "expected auto, cpu, cuda or cuda:N, got 'gpu'"),
        ("[server.settings]\nday = 2020-01-01", "server.settings: day is datetime.date"),
        ("[server", "expected TOML: "),
    ],
)
def test_invalid_file_raises_one_line_naming_file_and_setting(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "understudy.toml"
    path.write_text(text)
    found = _message(Overrides(file=path))
    assert message in found
    assert found.startswith(f"file {path}: ")
    assert "\n" not in found


def test_file_with_several_errors_reports_all(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[server]\nport = -1\nmax_clients = 'x'\n[learner]\nhidden = ['a', 'b']")
    assert [line.split(": ")[1] for line in _message(Overrides(file=path)).splitlines()] == [
        "server.port",
        "server.max_clients",
        "learner.hidden[0]",
    ]


def test_unreadable_file_raises(tmp_path: Path) -> None:
    assert "No such file" in _message(Overrides(file=tmp_path / "none.toml"))
    assert "Is a directory" in _message(Overrides(file=tmp_path))
    (tmp_path / "latin").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in _message(Overrides(file=tmp_path / "latin"))


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("UNDERSTUDY_SERVR__PORT", "1", "no such setting (did you mean UNDERSTUDY_SERVER__PORT?)"),
        ("UNDERSTUDY_SERVER_PORT", "1", "no such setting (did you mean UNDERSTUDY_SERVER__PORT?)"),
        ("UNDERSTUDY_SERVER__PORT", "x", "server.port: expected a whole number from 0 to 65535"),
        ("UNDERSTUDY_SERVER__PORT", "", "got ''"),
        ("UNDERSTUDY_TRAINER__ENABLED", "maybe", "expected true or false, got 'maybe'"),
        ("UNDERSTUDY_LEARNER__HIDDEN", "512", "expected a list that is not empty, each a whole"),
        ("UNDERSTUDY_LEARNER__HIDDEN", "[1]\nx = 2", "got '[1]\\nx = 2'"),
        ("UNDERSTUDY_LEARNER__GAMMA", "nan", "expected a number from 0 to 1, got nan"),
        ("UNDERSTUDY_REWARD__WEIGHTS", "{", "reward.weights: expected a table"),
    ],
)
def test_invalid_environment_variable_raises_naming_it(
    variable: str, text: str, message: str
) -> None:
    found = _message(environ={variable: text, "OTHER_SERVER__PORT": "x"})
    assert message in found
    assert found.startswith(f"environment {variable}: ")


def test_conflicting_settings_error_names_both_sources(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.toml", {"replay.capacity_steps": 500})
    assert _message(Overrides(file=path), {"UNDERSTUDY_TRAINER__MIN_STEPS": "600"}) == (
        "trainer.min_steps is 600 and replay.capacity_steps 500; training would never begin "
        "(trainer.min_steps: environment UNDERSTUDY_TRAINER__MIN_STEPS, "
        f"replay.capacity_steps: file {path})"
    )
    assert _message(environ={"UNDERSTUDY_ADVANTAGE__WEIGHT_MIN": "200"}).endswith(
        "(advantage.weight_min: environment UNDERSTUDY_ADVANTAGE__WEIGHT_MIN, "
        "advantage.weight_max: default)"
    )


def test_unknown_preset_error_suggests_nearest_and_lists_all() -> None:
    message = _message(Overrides(preset="dmo"))
    names = ", ".join(loading.presets())
    assert message == f"there is no preset 'dmo' (did you mean demo?); the presets are {names}"


@pytest.mark.parametrize(
    ("word", "meant"),
    [("server.prot", "server.port"), ("gama", "learner.gamma"), ("xyz", None)],
)
def test_nearest_misspelled_name_returns_closest_or_none(word: str, meant: str | None) -> None:
    assert nearest(word, all_settings()) == meant


# Secrets

SECRET = "s3cret-of-the-house"


@pytest.mark.parametrize("key", ["server.token", "server.control_token"])
def test_secret_value_absent_from_errors_reprs_and_toml(key: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.toml", {key: SECRET, "server.port": -1})
    command = _command(f"--{key}", SECRET, "--server.port", "-1")
    variable = all_settings()[key].variable
    environ = {variable: SECRET, "UNDERSTUDY_SERVER__PORT": "-1"}
    for given_, env in ((Overrides(file=path), {}), (command, {}), (Overrides(), environ)):
        assert SECRET not in repr(given_)
        with pytest.raises(ConfigError, match="port") as caught:
            load(given_, env)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
    loaded = load(environ={variable: SECRET})
    assert _value(loaded, key) == SECRET
    assert SECRET not in repr(loaded)
    assert f"{key.partition('.')[2]} =" not in to_toml(loaded.config)
    assert SECRET not in to_toml(loaded.config)


@pytest.mark.parametrize("wrong", ["[12345678]", "12345678", "{ a = 12345678 }"])
def test_secret_of_wrong_type_error_omits_value(wrong: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(f"[server]\ntoken = {wrong}")
    message = _message(Overrides(file=tmp_path / "a.toml"))
    assert "server.token: expected text" in message
    assert "12345678" not in message


# Configurations that programs make


def test_config_from_values_applies_preset_and_ignores_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UNDERSTUDY_LEARNER__GAMMA", "0.5")
    assert config_from({}) == Config()
    found = config_from({"server.port": 5, "run.dir": "a"}, preset="demo")
    assert (found.server.port, found.run.dir) == (5, Path("a"))
    demo = load(Overrides(preset="demo"), {}).config
    assert flat(found) == flat(demo) | {"server.port": 5, "run.dir": Path("a")}
    assert config_from({"tempest.port": 0}).expert == config_from({}, preset="tempest").expert


def test_config_from_invalid_values_error_names_source() -> None:
    with pytest.raises(ConfigError, match=r"^here: server\.port: expected a whole number"):
        config_from({"server.port": -1}, source="here")
    with pytest.raises(ConfigError, match="there is no preset 'x'"):
        config_from({}, preset="x")
