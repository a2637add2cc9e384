"""Settings under the names that they had before: resumed with, refused from a person."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import tomli_w

from config import renamed
from config.changes import changed, parse
from config.fields import all_settings, flat, nested, variable_of
from config.load import ConfigError, Overrides, config_of_run, load
from config.models import Config
from config.options import add_arguments, given
from config.options import parse as parse_arguments
from lab.study.comparisons import COMPARISONS
from lab.study.design import jobs
from server.run.directory import write_effective

RESULTS = Path(__file__).parents[2] / "results"

OLD = {
    "health.then": "stop",
    "health.lower_rate": 0.25,
    "health.go_back_most": 7,
    "health.skips_in_a_row": 11,
    "supervision.restarts": 6,
    "supervision.within_s": 700.0,
    "supervision.pause_s": 0.25,
    "supervision.hang_s": 70.0,
    "replay.prioritised": True,
    "learner.normalise_observations": True,
    "advantage.normalise": True,
}
"""A value other than the default, under each old name."""


def error_message(given: Overrides, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        load(given, environ or {})
    return str(error.value)


def run_of(folder: Path, values: dict[str, object]) -> Path:
    """The folder of a run whose configuration has these values."""
    (folder / "config.toml").write_text(tomli_w.dumps(nested(values)))
    return folder


def test_rename_table_maps_removed_names_to_current_settings() -> None:
    assert OLD.keys() == renamed.KEYS.keys()
    assert set(renamed.KEYS.values()) <= all_settings().keys()
    assert not renamed.KEYS.keys() & all_settings().keys()
    assert set(renamed.VALUES) <= set(renamed.KEYS.values())


def test_resume_old_run_keeps_values_and_saves_new_names(
    tmp_path: Path,
) -> None:
    loaded = load(Overrides(resume=run_of(tmp_path, OLD)), {})
    expected = {renamed.KEYS[old]: value for old, value in OLD.items()}
    values = flat(loaded.config)
    assert {key: values[key] for key in expected} == expected
    assert {loaded.origins[key] for key in expected} == {f"run {tmp_path}"}
    text = write_effective(loaded.config, tmp_path).read_text()
    assert not [old for old in OLD if f"\n{old.partition('.')[2]} = " in text]
    assert config_of_run(tmp_path) == loaded.config


def test_resume_old_value_is_translated(tmp_path: Path) -> None:
    for old, new in (("go_back", "rollback"), ("stop", "stop")):
        run = run_of(tmp_path, {"health.then": old})
        assert config_of_run(run).health.on_divergence == new


def test_resume_invalid_value_under_old_name_raises_with_new_name(tmp_path: Path) -> None:
    for damaged in ([1], {"a": 1}, "back"):
        message = error_message(Overrides(resume=run_of(tmp_path, {"health.then": damaged})))
        assert "health.on_divergence" in message
        assert "expected rollback or stop" in message


def test_resume_run_with_old_and_new_name_uses_new(tmp_path: Path) -> None:
    for first, second in (("lower_rate", "lr_factor"), ("lr_factor", "lower_rate")):
        both = {f"health.{name}": 0.25 if name == "lr_factor" else 0.75 for name in (first, second)}
        assert list(both) == [f"health.{first}", f"health.{second}"]
        assert config_of_run(run_of(tmp_path, both)).health.lr_factor == 0.25


@pytest.mark.parametrize(("old", "new"), renamed.KEYS.items())
def test_old_name_from_user_source_raises_with_new_name(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(nested({old: OLD[old]})))
    assert error_message(Overrides(file=path)) == f"file {path}: {old} is now {new}; rename it"

    variables = variable_of(old), variable_of(new)
    assert error_message(Overrides(), {variables[0]: "1"}) == (
        f"environment {variables[0]} is now {variables[1]}; rename it"
    )

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(ConfigError) as error:
        given(parse_arguments(parser, [f"--{old}=1"]))
    assert str(error.value) == f"command line --{old} is now --{new}; rename it"

    with pytest.raises(ConfigError, match=f"^change: {old} is now {new}$"):
        changed(Config(), parse([f"{old}=1"]))


def test_old_boolean_option_error_names_new_option_with_dashes() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(ConfigError, match=r"--no-replay\.prioritised is now --no-replay\.priorit"):
        parse_arguments(parser, ["--no-replay.prioritised"])
    with pytest.raises(ConfigError, match=r"--replay\.prioritised is now --replay\.prioritized"):
        parse_arguments(parser, ["--replay.prioritised", "true"])


def test_file_with_all_old_names_reports_every_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(nested(OLD)))
    assert len(error_message(Overrides(file=path)).splitlines()) == len(OLD)


def test_with_old_names_reverses_rename_table() -> None:
    tree = Config().model_dump(mode="json")
    old = renamed.with_old_names(tree)
    assert old["health"]["then"] == "go_back"
    assert old["advantage"]["normalise"] is False
    assert tree == Config().model_dump(mode="json"), "the tree that was given is as it was"
    for key in renamed.KEYS.values():
        group, name = key.split(".")
        assert name not in old[group]
    assert renamed.with_old_names({"reward": {"clip": None}}) == {"reward": {"clip": None}}


def test_stored_result_files_match_current_job_keys() -> None:
    """Each file in results/ has the key of a job that a comparison has today."""
    kept = {path.relative_to(RESULTS).as_posix() for path in RESULTS.glob("*/*.jsonl")}
    assert len(kept) > 200
    of_today = {
        f"{what.name}/{job.key}.jsonl"
        for what in COMPARISONS
        for job in jobs(what, full=True, seeds=10)
    }
    assert kept <= of_today
