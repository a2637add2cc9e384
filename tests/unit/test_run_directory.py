from __future__ import annotations

from pathlib import Path

import pytest

from config.load import ConfigError, config_of_run
from config.models import Config, RunConfig, ServerConfig
from protocol.spaces import Continuous, Discrete, GameSpec, Observation
from server.run.directory import RunDirectory
from tests.support.worlds import PIXELS, SPEC


def config_for(path: Path | None) -> Config:
    return Config(run=RunConfig(dir=path), server=ServerConfig(port=1234))


def open_new(path: Path | None) -> RunDirectory:
    """Open and let go at once, as a server does whose process ends."""
    folder = RunDirectory.open(config_for(path), resume=False)
    folder.close()
    return folder


def open_again(path: Path) -> RunDirectory:
    folder = RunDirectory.open(config_for(path), resume=True)
    folder.close()
    return folder


def played(path: Path) -> RunDirectory:
    folder = open_new(path)
    folder.keep_game(SPEC)
    return folder


def test_a_new_run_gets_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    folder = open_new(path)
    assert (folder.path, folder.launch) == (path, 1)
    assert folder.checkpoints.is_dir()
    assert folder.game() is None
    assert config_of_run(path).server.port == 1234


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    assert open_new(tmp_path).launch == 1


def test_without_a_folder_one_is_made_among_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RunDirectory.open(config_for(None), resume=False, label="demo")
    folder.close()
    assert folder.path.parent == Path("runs")
    assert folder.path.name.endswith("-demo")
    assert folder.path.is_dir()


def test_every_start_of_a_run_has_a_number_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "run"
    open_new(path)
    assert [open_again(path).launch for _ in range(3)] == [2, 3, 4]


@pytest.mark.promise("run-locked")
def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first = RunDirectory.open(config_for(path), resume=False)
    for resume in (True, False):
        with pytest.raises(ConfigError, match="in use by another server; stop it first"):
            RunDirectory.open(config_for(path), resume=resume)
    first.close()
    assert open_again(path).launch == 2


def test_a_start_that_no_game_came_to_may_be_made_again(tmp_path: Path) -> None:
    """The port was taken, say: the same command must work once it is free."""
    path = tmp_path / "run"
    for _ in range(2):
        assert open_new(path).launch == 1


def test_a_run_is_not_started_over(tmp_path: Path) -> None:
    path = tmp_path / "run"
    played(path)
    with pytest.raises(ConfigError, match=r"holds a run; continue it with `--resume .*run`"):
        open_new(path)


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="expected a new or empty folder"):
        open_new(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match=r"run\.dir"):
        open_new(file)
    with pytest.raises(ConfigError, match=r"run\.dir: cannot use"):
        open_new(file / "below")


def test_only_a_run_can_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.dir: cannot use"):
        open_again(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"launches": "many"}', "{}", "7"])
def test_a_damaged_mark_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run"
    open_new(path)
    (path / "run.json").write_text(text)
    with pytest.raises(ConfigError, match=r"run\.json is damaged"):
        open_again(path)


MIXED = GameSpec(
    "mixed",
    Observation("float32", (1, 2, 3)),
    (Continuous("aim", -0.1, 0.30000001192092896, 2), Discrete("fire", 2**24)),
    ("score", "life"),
)


@pytest.mark.parametrize("spec", [SPEC, PIXELS, MIXED])
def test_the_game_is_kept_exactly(tmp_path: Path, spec: GameSpec) -> None:
    folder = open_new(tmp_path / "run")
    folder.keep_game(spec)
    assert open_again(folder.path).game() == spec


@pytest.mark.parametrize("text", ["", "{}", '{"game": "x"}', "[1, 2]"])
def test_a_damaged_game_is_said(tmp_path: Path, text: str) -> None:
    folder = open_new(tmp_path / "run")
    (folder.path / "game.json").write_text(text)
    with pytest.raises(ConfigError, match=r"game\.json is damaged.*choose another run"):
        folder.game()


def test_a_game_that_cannot_be_is_said(tmp_path: Path) -> None:
    folder = open_new(tmp_path / "run")
    folder.keep_game(SPEC)
    file = folder.path / "game.json"
    file.write_text(file.read_text().replace("float32", "float64"))
    with pytest.raises(ConfigError, match=r"expected float32 or uint8"):
        folder.game()
