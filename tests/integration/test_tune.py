"""A search with real trials: killed, gone on with, and worse ones stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from config.load import Overrides, load
from lab import sync_trainer
from lab.sync_trainer import EvaluationPoint
from lab.tune import command, search
from lab.tune.outcome import BEST, FINISHED, TRIALS
from lab.tune.plan import play_trial
from server.cli import parser_for
from tests.support.forked import fork_own_workers
from tests.support.preloaded import Understudy
from tests.support.tune import plan
from tests.support.tune_game import ENV, EXPERT, HELD, HOLD, LENGTH

ROOT = Path(__file__).parents[2]
FRAMES = 480
NEVER = 1_000_000
"""As `trainer.min_steps`: such a trial learns nothing."""

WORDS = [
    "--env", ENV, "--expert", EXPERT, "--frames", str(FRAMES), "--eval-every", str(FRAMES // 4),
    "--eval-episodes", "2", "--workers", "1", "--seed", "3",
    "--search", f"trainer.min_steps=20,{NEVER}", "--search", "learner.gamma=0.5..0.9",
    "--trainer.min_steps", "20", "--trainer.replay_ratio", "1", "--learner.gamma", "0.8",
    "--learner.hidden", "[16]", "--learner.learning_rate", "0.01", "--learner.batch_size", "32",
]  # fmt: skip


@contextmanager
def begun(folder: Path, hold: Path) -> Iterator[subprocess.Popen[str]]:
    """A search in a process of its own."""
    words = ["tune", *WORDS, "--trials", "9", "--out", str(folder)]
    with Understudy(
        *words, first=fork_own_workers, env=os.environ | {HOLD: str(hold)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def wait_for(path: Path) -> None:
    until = time.monotonic() + 100
    while not path.exists():
        assert time.monotonic() < until, f"expected {path}"
        time.sleep(0.02)


def study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="tune", storage=f"sqlite:///{folder / search.DATABASE}")


def rows(folder: Path) -> list[str]:
    return (folder / TRIALS).read_text().splitlines()[1:]


@pytest.mark.timeout(300)  # five starts of Python with torch, on a machine that may be busy
def test_killed_search_goes_on_with_the_trials_that_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that can learn nothing is stopped on the way."""
    folder, hold = tmp_path / "search", tmp_path / "hold"
    with begun(folder, hold) as process:
        wait_for(folder / TRIALS)
        hold.touch()  # the next trial, or one after it, never ends
        wait_for(Path(f"{hold}{HELD}"))
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    hold.unlink()
    before = rows(folder)
    (lost,) = study(folder).get_trials(states=(TrialState.RUNNING,))
    bad = {"trainer.min_steps": str(NEVER), "learner.gamma": 0.7}
    study(folder).enqueue_trial(bad)

    monkeypatch.setattr(search, "FREE_TRIALS", 1)
    args = [*WORDS, "--trials", str(len(before) + 2), "--out", str(folder)]
    assert command.main(parser_for("tune").parse_args(args)) == 0
    after = rows(folder)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 2
    trials = study(folder).trials
    assert trials[lost.number].state == TrialState.FAIL
    again = [trial for trial in trials if trial.params == lost.params]
    assert len(again) == 2
    assert again[1].state in (TrialState.COMPLETE, TrialState.PRUNED)
    (stopped,) = (trial for trial in trials if trial.params == bad)
    assert stopped.state == TrialState.PRUNED
    assert max(stopped.intermediate_values) < FRAMES

    first, best = after[0].split(","), load(Overrides(file=folder / BEST), {}).config
    assert (first[1], float(first[2])) == (FINISHED, LENGTH)  # as given, it learns the game
    assert best.trainer.min_steps == 20


def test_trial_of_two_seeds_has_the_returns_of_both_runs() -> None:
    """Played side by side, each comes out as it does alone."""
    small: dict[str, Any] = {"learner__hidden": (8,), "learner__batch_size": 8}
    what = plan("trainer.min_steps=20,30", trainer__min_steps=20, **small)
    options = sync_trainer.SyncTrainerOptions(
        ENV, 60, expert=EXPERT, eval_every=30, eval_episodes=2
    )
    trial = type(what)(options, 2, 5, what.base, what.space).trial(0, {"trainer.min_steps": 30})
    assert [config.run.seed for config in trial.configs] == [5, 6]
    told: list[EvaluationPoint] = []
    play_trial(trial, told.append)
    alone = [sync_trainer.run(config, options) for config in trial.configs]
    assert [point.frames for point in told] == [30, 60]
    assert [point.returns for point in told] == [
        first.returns + second.returns for first, second in zip(*alone, strict=True)
    ]
