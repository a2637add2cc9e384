from __future__ import annotations

from pathlib import Path

import pytest

from config.load import ConfigError, config_of_run
from config.models import Config, RunConfig, ServerConfig
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from server.run.directory import RunDirectory
from tests.support.folders import begun
from tests.support.worlds import PIXELS, SPEC


def config_for(path: Path | None) -> Config:
    return Config(run=RunConfig(dir=path), server=ServerConfig(port=1234))


def open_new_and_close(path: Path | None) -> RunDirectory:
    """Open and let go at once, as a server does whose process ends."""
    folder = begun(config_for(path))
    folder.close()
    return folder


def resume_and_close(path: Path) -> RunDirectory:
    folder = begun(config_for(path), resume=True)
    folder.close()
    return folder


def run_with_game(path: Path) -> RunDirectory:
    folder = open_new_and_close(path)
    folder.keep_game(SPEC)
    return folder


def test_run_directory_new_path_is_created(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    folder = open_new_and_close(path)
    assert (folder.path, folder.launch) == (path, 1)
    assert folder.checkpoints.is_dir()
    assert folder.game() is None
    assert config_of_run(path).server.port == 1234


def test_run_directory_existing_empty_folder_is_accepted(tmp_path: Path) -> None:
    assert open_new_and_close(tmp_path).launch == 1


def test_run_directory_without_path_is_created_under_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RunDirectory.open(config_for(None), resume=False, label="demo")
    folder.close()
    assert folder.path.parent == Path("runs")
    assert folder.path.name.endswith("-demo")
    assert folder.path.is_dir()


def test_run_directory_launch_number_grows_with_each_resume(tmp_path: Path) -> None:
    path = tmp_path / "run"
    open_new_and_close(path)
    assert [resume_and_close(path).launch for _ in range(3)] == [2, 3, 4]


@pytest.mark.promise("run-locked")
def test_run_directory_in_use_by_other_server_raises(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first = begun(config_for(path))
    for resume in (True, False):
        with pytest.raises(ConfigError, match="in use by another server; stop it first"):
            RunDirectory.open(config_for(path), resume=resume)
    first.close()
    assert resume_and_close(path).launch == 2


def test_run_directory_without_game_can_be_opened_as_new_again(tmp_path: Path) -> None:
    """The port was taken, say: the same command must work once it is free."""
    path = tmp_path / "run"
    for _ in range(2):
        assert open_new_and_close(path).launch == 1


def test_run_directory_with_run_opened_as_new_raises(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run_with_game(path)
    with pytest.raises(ConfigError, match=r"holds a run; continue it with `--resume .*run`"):
        open_new_and_close(path)


def test_run_directory_with_other_files_raises_and_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="expected a new or empty folder"):
        open_new_and_close(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_run_directory_path_is_a_file_raises(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match=r"run\.dir"):
        open_new_and_close(file)
    with pytest.raises(ConfigError, match=r"run\.dir: cannot use"):
        open_new_and_close(file / "below")


def test_run_directory_resume_of_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.dir: cannot use"):
        resume_and_close(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"launches": "many"}', "{}", "7"])
def test_run_directory_with_damaged_run_json_raises(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run"
    open_new_and_close(path)
    (path / "run.json").write_text(text)
    with pytest.raises(ConfigError, match=r"run\.json is damaged"):
        resume_and_close(path)


MIXED = GameSpec(
    "mixed",
    Observation("float32", (1, 2, 3)),
    (Continuous("aim", -0.1, 0.30000001192092896, 2), Discrete("fire", 2**24)),
    ("score", "life"),
)


@pytest.mark.parametrize("spec", [SPEC, PIXELS, MIXED])
def test_game_spec_saved_then_read_is_equal(tmp_path: Path, spec: GameSpec) -> None:
    folder = open_new_and_close(tmp_path / "run")
    folder.keep_game(spec)
    assert resume_and_close(folder.path).game() == spec


@pytest.mark.parametrize("text", ["", "{}", '{"game": "x"}', "[1, 2]"])
def test_game_with_damaged_file_raises(tmp_path: Path, text: str) -> None:
    folder = open_new_and_close(tmp_path / "run")
    (folder.path / "game.json").write_text(text)
    with pytest.raises(ConfigError, match=r"game\.json is damaged.*choose another run"):
        folder.game()


def test_game_with_invalid_spec_raises(tmp_path: Path) -> None:
    folder = open_new_and_close(tmp_path / "run")
    folder.keep_game(SPEC)
    file = folder.path / "game.json"
    file.write_text(file.read_text().replace("float32", "float64"))
    with pytest.raises(ConfigError, match=r"expected float32, uint8"):
        folder.game()
