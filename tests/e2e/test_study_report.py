"""The page, the tables and the command, from results that are made up."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.study import report as study_report
from lab.study.checks import Ends, Passes
from lab.study.design import Picture, Scene, jobs
from lab.study.results import Results, Run
from lab.study.store import path_of
from server.cli import main
from tests.support.fake_results import SCENE, comparison, results, run, write, write_one
from tests.support.markdown import broken_links

GOOD, BAD = [0.0, 100.0, 230.0], [0.0, 50.0, 90.0]
PASSES = Passes("land", "a", 200, by=3000)
WHAT = comparison(PASSES, Ends("land", "b", None), passing=200, metrics=("grad_share_dqn",))
METRICS = {
    "q_mean_dqn": [math.nan, 1.0, 2.0],
    "q_mean_expert": [math.nan, 2.0, 3.0],
    "grad_share_dqn": [math.nan, 0.2, 0.4],
}
RESULTS = results([GOOD, GOOD], [BAD, BAD], expert=150, metrics=METRICS)
COMMAND = "scripts/study tiny"


def page(folder: Path, found: Results = RESULTS, what: Any = WHAT) -> str:
    study_report.write(folder, [(what, found, COMMAND)], ["tiny"])
    return (folder / "results.md").read_text()


def test_report_page_has_tables_verdicts_pictures_and_commands(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "- [A tiny comparison](#a-tiny-comparison): 1 met, 1 NOT met" in text
    assert "| land, a: frames until the evaluation return first exceeds 200" in text
    assert "| 3,000 [3,000, 3,000] | **met** |" in text
    assert "at least the expert's 150.0" in text
    assert "| 90 [90, 90] | **NOT met** |" in text
    assert "| the expert alone |  | 150 |" in text
    assert "| a | 2 | 230 [230, 230] | 110 [110, 110] | 3,000 [3,000, 3,000] | 0.30 [" in text
    assert "| b | 2 | 90 [90, 90] | 47 [47, 47] | never [never, never] | 0.30 [" in text
    assert (
        "![Landing: evaluation return](results/tiny-land-return.png)\n\n`scripts/study tiny`"
        in text
    )
    assert "4 runs" in text
    assert "Revision abc; 2 cores of a processor" in text
    assert (tmp_path / "results/tiny-land-return.png").read_bytes()[:4] == b"\x89PNG"
    assert "\n\n\n" not in text


def test_report_verdicts_follow_the_results(tmp_path: Path) -> None:
    text = page(tmp_path, results([BAD, BAD], [GOOD, GOOD], expert=150, metrics=METRICS))
    assert "| never [never, never] | **NOT met** |" in text
    assert "| 230 [230, 230] | **met** |" in text
    text = page(tmp_path, replace(RESULTS, seeds=3))
    assert "- [A tiny comparison](#a-tiny-comparison): 2 not enough runs" in text
    assert text.count("**not enough runs**") == 2


def test_report_of_the_same_results_is_identical(tmp_path: Path) -> None:
    assert page(tmp_path / "a") == page(tmp_path / "b")
    name = "results/tiny-land-return.png"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_report_keeps_sections_of_other_comparisons(tmp_path: Path) -> None:
    page(tmp_path)
    other = replace(WHAT, name="other", title="Another one")
    order = ["other", "tiny"]
    nothing = Results(2, 2, {}, {})
    found = [(other, RESULTS, "scripts/study other"), (WHAT, nothing, COMMAND)]
    study_report.write(tmp_path, found, order)
    text = (tmp_path / "results.md").read_text()
    assert text.index("## Another one") < text.index("## A tiny comparison")
    assert text.index("(#another-one)") < text.index("(#a-tiny-comparison): 1 met, 1 NOT met")
    assert text.count("`scripts/study tiny`") == text.count("`scripts/study other`") == 1


def test_report_sums_up_several_games(tmp_path: Path) -> None:
    other = Scene("other", "Another game", SCENE.env, variants=("a",))
    what = replace(WHAT, scenes=(SCENE, other), checks=())
    runs = {**RESULTS.runs, ("other", "a"): [run(1, BAD, METRICS), run(2, BAD, METRICS)]}
    text = page(tmp_path, replace(RESULTS, runs=runs), what)
    assert "| return at the end | land | other | all together |" in text
    assert "| a | 230 [230, 230] | 90 [90, 90] | 160 [160, 160] |" in text
    assert "| b | 90 [90, 90] |  |  |" in text
    assert (tmp_path / "results/tiny-other-return.png").exists()
    text = page(tmp_path, replace(RESULTS, runs=runs), replace(what, one_scale=False))
    assert "| return at the end | land | other |\n" in text
    assert "| a | 230 [230, 230] | 90 [90, 90] |\n" in text


def test_report_says_nothing_of_scenes_that_were_not_played(tmp_path: Path) -> None:
    other = Scene("other", "Another game", SCENE.env)
    checks = (*WHAT.checks, Ends("other", "a", 10))
    text = page(tmp_path, what=replace(WHAT, scenes=(SCENE, other), checks=checks))
    assert "1 met, 1 NOT met\n" in text
    assert "Not played: other.\n" in text


def test_report_links_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.markdown.ROOT", tmp_path)
    text = page(tmp_path)
    assert broken_links(text, tmp_path) == []
    (tmp_path / "results/tiny-land-return.png").unlink()
    assert broken_links(text, tmp_path) == ["results/tiny-land-return.png"]


def test_report_lines_are_interquartile_means_over_runs() -> None:
    from lab.study.plots import metric_line, return_line  # with matplotlib: not for every worker

    runs = [
        run(i, [value, 2 * value], {"q_dqn": [math.nan, value]})
        for i, value in enumerate([1.0, 4.0, 7.0])
    ]
    line = return_line(runs, 2)
    assert line.frames == [1000, 2000]
    assert line.middle == [4, 8]
    assert line.low[0] >= 1
    assert line.high[0] <= 7
    metric = metric_line(runs, "q_dqn")
    assert (metric.frames, metric.middle) == ([2000], [4])
    longer = Run(4, (*runs[0].evaluations, *runs[0].evaluations))
    assert len(return_line([*runs, longer], 2).frames) == 2


def test_report_pictures_show_panels_and_both_actors(tmp_path: Path) -> None:
    panels = Picture("panels", "in panels", panels={"one": ("a",), "two": ("a", "b")})
    actors = Picture("actors", "both actors", metrics=("q_mean",))
    what = replace(WHAT, pictures=(panels, actors))
    text = page(tmp_path, what=what)
    assert "(results/tiny-land-panels.png)" in text
    assert "![Landing: both actors](results/tiny-land-actors.png)" in text
    sizes = [(tmp_path / f"results/tiny-land-{p}.png").stat().st_size for p in ("panels", "actors")]
    assert min(sizes) > 10_000


def test_report_data_is_available_as_json() -> None:
    data = json.loads(json.dumps(study_report.as_data(WHAT, RESULTS), allow_nan=False))
    assert data["comparison"] == "tiny"
    assert data["scenes"]["land"]["expert"] == 150
    a, b = data["scenes"]["land"]["variants"]
    assert a["final"] == {"point": 230, "low": 230, "high": 230, "n": 2}
    assert b["passing"]["point"] == "never"
    assert [verdict["verdict"] for verdict in data["verdicts"]] == ["met", "NOT met"]


# The command.


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.study.command.COMPARISONS", (WHAT,))


@pytest.mark.usefixtures("known")
def test_study_does_not_repeat_complete_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is started here: with all files there, the command shows what they say."""
    where = ["--results", str(tmp_path / "results")]
    write(tmp_path / "results", WHAT, {"": [[150.0]], "a": [GOOD, GOOD], "b": [BAD, BAD]})
    assert main(["study", "tiny", *where, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "all 5 runs are complete" in err
    assert "--results" in err
    (data,) = json.loads(out)
    assert [verdict["verdict"] for verdict in data["verdicts"]] == ["met", "NOT met"]
    assert main(["study", "tiny", *where]) == 0
    out, _ = capsys.readouterr()
    assert "Landing" in out
    assert "NOT met" in out
    assert main(["study", "--list", *where]) == 0
    assert "4 of 4" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--full"]])
def test_study_without_a_name_runs_one_comparison_and_in_full_all(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = replace(WHAT, name="other")
    monkeypatch.setattr("lab.study.command.COMPARISONS", (WHAT, other))
    monkeypatch.setattr("lab.study.command.WITHOUT_A_NAME", "other")
    for what in (WHAT, other):
        for job in jobs(what, full=bool(words)):
            write_one(tmp_path, job, GOOD)
    assert main(["study", "--results", str(tmp_path), "--json", *words]) == 0
    out, err = capsys.readouterr()
    assert "runs are complete" in err
    told = [data["comparison"] for data in json.loads(out)]
    assert told == (["tiny", "other"] if words else ["other"])


@pytest.mark.usefixtures("known")
def test_study_without_matplotlib_refuses_only_the_report(tmp_path: Path) -> None:
    """Without matplotlib everything else runs; a report is refused before anything is played."""
    code = (
        "import sys; sys.modules['matplotlib'] = None; "
        "from server.cli import main; where = sys.argv[1]; "
        "assert main(['study', '--list', '--results', where]) == 0; "
        "raise SystemExit(main(['study', 'weak-teacher', '--report', where]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "install understudy with the extra study" in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("known")
def test_study_report_starts_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, docs = tmp_path / "results", tmp_path / "docs"
    assert main(["study", "--results", str(folder), "--report", str(docs)]) == 0
    assert "## A tiny comparison" not in (docs / "results.md").read_text()
    for job in jobs(WHAT)[:3]:  # the expert, and one seed of two
        write_one(folder, job, GOOD)
    assert main(["study", "--results", str(folder), "--report", str(docs)]) == 0
    assert "**not enough runs**" in (docs / "results.md").read_text()
    assert "1 pictures" in capsys.readouterr().out
    assert not path_of(folder, jobs(WHAT)[-1]).exists()


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "there is no comparison 'nothing'; there are tiny"),
        (["tiny", "--learner.gamma", "0.5"], "--learner.gamma: the settings of a named comparison"),
        (["tiny", "--preset", "demo"], "--preset, --config or --resume: the settings of"),
        (["tiny", "--env", "LunarLander-v3"], "expected no other comparison, got ['tiny']"),
        (["--env", "LunarLander-v3", "--weaken", "2"], "--weaken: expected a number from 0 to 1"),
        (["--env", "LunarLander-v3", "--learner.gamma", "2"], "--learner.gamma"),
        (["tiny", "--variant", "a"], "--variant: expected --env ENV with it"),
        (["tiny", "--expert", "none"], "--expert: expected --env ENV with it"),
    ],
)
def test_study_options_that_make_no_sense_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.timeout(300)  # where the machine has much else to do
def test_own_comparison_runs_and_writes_tables_and_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two variants, one without a teacher; stopped or not, what is complete is not run again."""
    monkeypatch.chdir(tmp_path)
    words = ["study", "--env", "CartPole-v1", "--expert", "tests.support.fake_games:push_right"]
    words += ["--variant", "long:learner.n_step=5", "--variant", "alone:expert=none"]
    words += ["--frames", "200", "--eval-every", "100", "--seeds", "2", "--jobs", "1"]
    words += ["--learner.hidden", "[8]", "--trainer.min_steps", "20"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "5 runs to make, 0 are there" in said
    assert "written: studies/CartPole-v1/results.md and 2 pictures" in said
    folder = tmp_path / "studies/CartPole-v1"
    text = (folder / "results.md").read_text()
    assert "## CartPole-v1: long, alone" in text
    assert "| the expert alone |  | 9." in text
    assert re.search(r"\| long \| 2 \| \d+(\.\d)? \[.+\] \| \d+(\.\d)? \[", text)
    assert "CartPole-v1, alone: mean return over all evaluations above that of long" in text
    command = shlex.join(["understudy", *words]).replace(" --jobs 1", "")
    assert f"`{command}`" in text
    for picture in ("return", "actors"):
        path = folder / f"results/own-CartPole-v1-{picture}.png"
        assert path.read_bytes()[:4] == b"\x89PNG"
    files = folder.rglob("*-seed1-*.jsonl")
    heads = [json.loads(path.read_text().splitlines()[0]) for path in files]
    told = {each["variant"]: each for each in heads}
    assert told["long"]["config"]["learner"]["n_step"] == 5
    assert told["alone"]["options"]["expert"] == "none"
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "all 5 runs are complete" in err
    (data,) = json.loads(out)
    variants = {each["variant"]: each["runs"] for each in data["scenes"]["CartPole-v1"]["variants"]}
    assert variants == {"long": 2, "alone": 2}
