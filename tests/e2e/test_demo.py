from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from agent import checkpoint, diagnostics
from config.load import load
from config.options import given, parse
from server import cli
from server.commands import demo, demo_run
from server.monitor.metrics import SERIES
from server.monitor.metrics_doc import SUMMARY
from server.play.attribution import compare, load_dump, load_logs
from server.signals import SignalFlag
from tests.support.commands import in_this_process

ASKED_FOR = {
    "frames", "seconds", "frames_per_s", "updates", "updates_per_s", "samples_per_s", "buffer",
    "eval_return_mean", "eval_episodes", "expert_return_mean", "transitions_dropped",
    "attribution_mismatches",
}  # fmt: skip
"""What scripts read from summary.json, beside the metrics of each actor."""


FINAL_EPISODES = 6


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The folder of a short demo, what it printed, and what it said on stderr."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "FINAL_EPISODES", FINAL_EPISODES)
        code, out, errors = in_this_process(
            "demo", "--json", "--frames", "1000", "--eval-every", "400", "--clients", "2",
            "--seed", "5", "--run", str(folder), "--metrics.every_s", "0.2",
        )  # fmt: skip
    assert code == 0, errors
    return folder, json.loads(out), errors


@pytest.mark.timeout(240)
def test_demo_runs_from_start_to_finish(run: tuple[Path, dict[str, Any], str]) -> None:
    folder, summary, errors = run
    assert errors == ""
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert summary.keys() >= ASKED_FOR
    assert summary.keys() >= SUMMARY.keys()
    assert summary.keys() - SUMMARY.keys() <= SERIES.keys()
    assert summary["run"] == str(folder)
    assert summary["frames"] >= 1000
    # The games play on until they are stopped, but not for long: the trainer holds them back.
    assert summary["frames"] < 1000 + 400
    assert summary["seconds"] > 0
    assert summary["frames_per_s"] == pytest.approx(summary["frames"] / summary["seconds"])
    assert summary["updates"] == summary["frames"] - 500
    assert summary["samples_per_s"] == pytest.approx(summary["updates_per_s"] * 128)


def test_demo_summary_has_both_actors(run: tuple[Path, dict[str, Any], str]) -> None:
    summary = run[1]
    buffer = summary["buffer"]
    assert buffer.keys() == {"total", "dqn", "expert", "frac_dqn", "frac_expert"}
    assert buffer["total"] == summary["frames"] == buffer["dqn"] + buffer["expert"]
    # Whole episodes are one actor's alone (agent.probes), and few are played here.
    assert 0.2 < buffer["frac_dqn"] < 0.95, "who is trusted plays more or less"
    assert buffer["frac_dqn"] + buffer["frac_expert"] == pytest.approx(1)
    for name in diagnostics.METRICS:
        assert isinstance(summary[name], int | float), f"{name}: {summary[name]}"


def test_demo_drops_nothing_and_tags_every_step(run: tuple[Path, dict[str, Any], str]) -> None:
    folder, summary, _ = run
    assert summary["transitions_dropped"] == summary["steps_in_flight"] == 0
    assert summary["attribution_mismatches"] == 0
    assert summary["attribution_compared"] == summary["frames"]
    # The logs are there to look at again.
    found = compare(load_logs(folder / "answers"), load_dump(folder / "answers" / "replay.npz"))
    assert found.ok
    assert found.compared == summary["frames"]


def test_demo_evaluates_network_and_expert_separately(
    run: tuple[Path, dict[str, Any], str],
) -> None:
    summary = run[1]
    assert summary["eval_episodes"] == summary["expert_episodes"] == FINAL_EPISODES
    assert -1000 < summary["eval_return_mean"] < 350
    assert summary["expert_return_mean"] > 200
    assert summary["eval_frames"] == summary["frames"]
    assert summary["frames_eval"] >= 20
    assert summary["frames_eval_expert"] >= 20
    assert summary["steps_completed"] == summary["frames"], "evaluation stores nothing"


def test_demo_evaluates_during_training(run: tuple[Path, dict[str, Any], str]) -> None:
    folder, summary, _ = run
    lines = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
    *way, last = lines
    assert [len(line["returns"]) for line in lines] == [5, 5, 5, FINAL_EPISODES]
    # The expert is measured at first, and with more episodes in the end.
    assert [len(line["expert_returns"]) for line in lines] == [5, 0, 0, FINAL_EPISODES]
    assert [mean for _, mean in summary["eval_on_the_way"]] == [
        pytest.approx(line["mean"]) for line in way
    ]
    # The server counts when the evaluation begins: the last frame of a game may be on its way yet.
    for (counted, _), line in zip(summary["eval_on_the_way"], way, strict=True):
        assert 0 <= counted - line["frames"] <= 2  # games
    # The games stop at that many actions; of each game one is not complete then.
    frames = [line["frames"] for line in way]
    assert all(0 <= 400 * i - frames[i] <= 4 for i in range(3)), frames
    assert last["mean"] == pytest.approx(summary["eval_return_mean"])
    best = max(line["mean"] for line in lines)
    assert summary["eval_return_best"] == pytest.approx(best)
    path = checkpoint.best(folder / "checkpoints")
    assert path is not None
    assert checkpoint.load(path)["evaluation"]["mean"] == pytest.approx(best)


def test_demo_run_can_be_resumed(run: tuple[Path, dict[str, Any], str]) -> None:
    folder, summary, _ = run
    path = checkpoint.latest(folder / "checkpoints")
    assert path is not None
    assert checkpoint.load(path)["frames"] == summary["frames"]
    assert (folder / "game.json").exists()
    assert (folder / "config.toml").exists()
    assert "[BATCH] Step 100: " in (folder / "understudy.log").read_text()
    assert "Traceback" not in (folder / "understudy.log").read_text()
    assert " warnings: " not in (folder / "understudy.log").read_text(), "it is healthy"


# Its options.


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="understudy demo")
    demo.add_arguments(parser)
    return parse(parser, words)


def test_demo_uses_its_preset_and_accepts_every_setting() -> None:
    args = parsed("--seed", "7", "--learner.hidden", "[32]")
    config = load(given(args), {}).config
    assert (config.run.seed, config.learner.hidden) == (7, (32,))
    assert config.server.port == 0
    assert (args.frames, args.clients) == (demo.FRAMES, 8)


@pytest.mark.parametrize(
    "words",
    [
        ["--frames", "0"],
        ["--frames", "many"],
        ["--clients", "0"],
        ["--clients", "-1"],
        ["--weaken", "2"],
        ["--weaken", "-0.5"],
    ],
)
def test_demo_options_that_make_no_sense_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        parsed(*words)
    assert error.value.code == 2
    assert f"argument {words[0]}: " in capsys.readouterr().err


def test_demo_of_a_game_without_expert_is_refused_before_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would train, and then have nobody to compare the network with."""
    folder = tmp_path / "run"
    assert cli.main(["demo", "--env", "CartPole-v1", "--run", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("understudy demo: --env: expected one with a known expert")
    assert not folder.exists()


def test_demo_summary_is_printed_as_text() -> None:
    console = Console(record=True, width=100, file=io.StringIO())
    summary = {
        "run": "runs/x",
        "eval_return_mean": 123.45,
        "eval_on_the_way": [[0, -250.2], [5000, 17.0]],
        "expert_return_mean": 283.0,
        "frames": 10_000,
        "frames_per_s": 1234.5,
        "updates": 9500,
        "updates_per_s": 321.0,
        "buffer": {"frac_dqn": 0.75, "frac_expert": 0.25},
        "transitions_dropped": 0,
        "steps_in_flight": 0,
        "attribution_mismatches": 0,
        "attribution_compared": 10_000,
    }
    demo._print_summary("LunarLanderHybrid-v3", console, summary)
    text = console.export_text()
    for part in (
        "-250, 17",
        "123.5",
        "283.0",
        "10,000 (1,234 a second)",
        "75.0% dqn, 25.0% expert",
        "LunarLanderHybrid-v3: student against teacher",
        "44% of its teacher",
        "10,000 compared, all right",
        "understudy inspect runs/x ",
        "understudy serve --resume runs/x ",
        "docs/start.md",
    ):
        assert part in text.replace("123.4", "123.5"), text
    assert "2 WRONG" in demo_run.attributed(summary | {"attribution_mismatches": 2})[1]


@pytest.mark.parametrize(
    ("student", "teacher", "share"),
    [(200.0, 250.0, "80%"), (300.0, 250.0, "120%"), (-5.0, 250.0, ""), (0.0, 250.0, ""),
     (-5.0, -20.0, ""), (5.0, -20.0, "")],
)  # fmt: skip
def test_demo_summary_shows_the_share_of_the_teachers_return(
    student: float, teacher: float, share: str
) -> None:
    rows = demo_run.reached(student, teacher)
    assert [text.partition(" ")[0] for _, text in rows] == ([share] if share else [])


def test_demo_games_are_all_described() -> None:
    assert demo.ABOUT.keys() == demo.EXPERTS.keys()


def test_demo_ends_early_with_a_reason() -> None:
    failures = [SimpleNamespace(message="no such environment")]
    well: Any = SimpleNamespace(failures=failures, all_given_up=False)
    failed: Any = SimpleNamespace(failures=failures, all_given_up=True)
    go, stop = (cast(SignalFlag, SimpleNamespace(set=value)) for value in (False, True))
    demo._check_all_is_well(go, well, well)
    for players in ((failed, well), (well, failed)):
        with pytest.raises(demo.DemoError, match="no such environment"):
            demo._check_all_is_well(go, *players)
    with pytest.raises(demo.DemoError, match="interrupted before the end"):
        demo._check_all_is_well(stop, well, failed)
