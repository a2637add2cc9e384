"""`understudy runs` and `understudy compare`: runs from their folders, in any state."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from config.load import ConfigError, InUse
from server.cli import main
from server.monitor.comparison import compare, curve
from server.run.directory import RunDirectory
from server.run.overview import overview
from tests.support.run_folders import evaluation, make_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs, and what is no run."""
    first = [evaluation(0, -50.0), evaluation(500, 120.0), evaluation(1000, 90.0)]
    make_run(tmp_path / "first", first, learner__gamma=0.9)
    second = [evaluation(0, -40.0), evaluation(2000, 300.0), evaluation(3000, 999.0, partial=True)]
    make_run(tmp_path / "second", second, learner__gamma=0.95, replay__capacity_steps=5000)
    (tmp_path / "no-run").mkdir()
    (tmp_path / "a-file").write_text("")
    return tmp_path


def listed(capsys: pytest.CaptureFixture[str], *folders: Path) -> list[dict[str, Any]]:
    assert main(["runs", *map(str, folders), "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_runs_lists_game_frames_best_evaluation_size_and_state(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest, older = listed(capsys, runs)
    assert (newest["name"], older["name"]) == ("second", "first")
    assert older["game"] == "test"
    assert (older["frames"], older["updates"], older["starts"]) == (1000, 500, 2)
    assert (older["best"], older["best_frames"], older["expert"]) == (120.0, 500, 200.0)
    assert (newest["best"], newest["evaluations"]) == (300.0, 2), "a partial one counts nothing"
    size = sum(path.stat().st_size for path in (runs / "first").rglob("*") if path.is_file())
    assert older["disk_bytes"] == size
    assert (older["state"], older["problem"]) == ("stopped", "")
    assert main(["runs", str(runs)]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()] == ["run", "second", "first"]
    assert "120 at 500" in said


def test_runs_of_a_run_is_that_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (only,) = listed(capsys, runs / "first")
    assert only["name"] == "first"


def test_state_of_a_run_says_whether_a_server_has_it_or_was_killed(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [evaluation(100, 1.0)])
    (folder / "lock").touch()
    assert overview(folder).state == "stopped"
    held = RunDirectory.take(folder)
    assert overview(folder).state == "running"
    held.close()
    assert overview(folder).state == "stopped"
    (folder / "in-flight").write_bytes(b"")
    assert overview(folder).state == "killed"
    held = RunDirectory.take(folder)
    assert overview(folder).state == "running"
    held.close()
    assert overview(make_run(tmp_path / "new", [], game=None)).state == "empty"


def test_server_starts_although_somebody_looks_at_the_run_just_then(tmp_path: Path) -> None:
    """Who looks holds the lock for a moment, shared; a server waits so long, and no longer."""
    folder = make_run(tmp_path / "run", [evaluation(100, 1.0)])
    (folder / "lock").touch()
    with (folder / "lock").open() as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)
        moment = threading.Timer(0.05, fcntl.flock, (looked_at, fcntl.LOCK_UN))
        moment.start()
        RunDirectory.take(folder).close()
        moment.join()
        fcntl.flock(looked_at, fcntl.LOCK_SH)
        with pytest.raises(InUse):
            RunDirectory.take(folder)


def test_looking_at_a_run_changes_nothing_in_it(runs: Path) -> None:
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    compare([runs / "first", runs / "second"])
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before


def test_runs_shows_damaged_runs_with_what_is_wrong(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "first" / "game.json").write_text("{")
    (runs / "first" / "run.json").write_text("{")
    with (runs / "first" / "evaluations.jsonl").open("a") as file:
        file.write('{"half a li')
    newest, damaged = listed(capsys, runs)
    assert newest["problem"] == ""
    assert damaged["game"] is None
    assert damaged["best"] == 120.0
    assert "game.json is damaged" in damaged["problem"]
    assert "run.json is damaged" in damaged["problem"]


def test_runs_of_no_folder_and_of_an_empty_one_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs in" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "nowhere")]) == 2
    assert "expected a folder with runs in it" in capsys.readouterr().err


def test_runs_and_compare_show_hostile_names_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = make_run(tmp_path / "[red]", [evaluation(100, 1.0)], game="[/x]")
    other = make_run(tmp_path / ":smile:", [evaluation(100, 2.0)], game="[/x]")
    assert main(["runs", str(tmp_path)]) == 0
    assert main(["compare", str(one), str(other)]) == 0
    said = capsys.readouterr().out
    for text in ("[red]", ":smile:", "[/x]"):
        assert said.count(text) >= 2


def test_compare_puts_curves_and_different_settings_side_by_side(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(runs / name) for name in ("first", "second")]
    assert main(["compare", *folders, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["label"] for run in found["runs"]] == ["first", "second"]
    assert found["curves"]["evaluation"] == [
        [[0, -50.0], [500, 120.0], [1000, 90.0]],
        [[0, -40.0], [2000, 300.0]],
    ]
    assert found["curves"]["episode_return_mean"][0][-1] == [1000, 100.0]
    assert found["settings"].pop("learner.gamma") == ["0.9", "0.95"]
    (capacity,) = found["settings"].values()
    assert capacity[1] == "5000"
    assert main(["compare", *folders]) == 0
    said = capsys.readouterr().out
    assert "learner.gamma" in said
    assert "█" in said
    (row,) = (line for line in said.splitlines() if line.startswith("frame 1,000 "))
    assert row.split()[2:] == ["90", "-40"], "the newest of each at that frame"


def test_compare_draws_any_metric_and_refuses_unknown_ones(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(runs / name) for name in ("first", "second")]
    assert main(["compare", *folders, "--curve", "updates", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["curves"]) == ["updates"]
    assert found["curves"]["updates"][1][-1] == [3000, 1500.0]
    with pytest.raises(SystemExit):
        main(["compare", *folders, "--curve", "nothing"])
    assert "the name of a metric" in capsys.readouterr().err


def test_curve_of_a_run_that_went_back_leaves_out_what_came_after(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run",
        [evaluation(0, 1.0), evaluation(500, 2.0), evaluation(900, 3.0), evaluation(600, 4.0)],
    )
    assert curve(run, "evaluation") == [(0, 1.0), (500, 2.0), (600, 4.0)]


def test_compare_of_runs_with_the_same_name_tells_them_apart(tmp_path: Path) -> None:
    one = make_run(tmp_path / "a" / "run", [evaluation(100, 1.0)])
    other = make_run(tmp_path / "b" / "run", [evaluation(100, 1.0)])
    labels = [run["label"] for run in compare([one, other])["runs"]]
    assert labels == [str(one), str(other)]


def test_compare_goes_on_where_a_configuration_cannot_be_read(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "first" / "config.toml").write_text("[learner]\nnothing = 1\n")
    folders = [str(runs / name) for name in ("first", "second")]
    assert main(["compare", *folders]) == 0
    said = capsys.readouterr().out
    assert "no such setting" in said
    assert "no setting differs" in said


def test_compare_refuses_one_run_and_what_is_no_run(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(runs / "first")]) == 2
    assert "expected two or more runs" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="expected the folder of a run"):
        compare([runs / "first", runs / "no-run"])


def test_runs_imports_no_torch(runs: Path) -> None:
    """It answers at once."""
    code = f"import sys; from server.cli import main; main(['runs', {str(runs)!r}]); " \
        "sys.exit('torch' in sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
