"""What a search leaves behind: settings that a server takes, and a table."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from config.load import Overrides, config_from, load
from config.models import Config
from lab.study.design import ELSEWHERE
from lab.tune.outcome import (
    BEST,
    FAILED,
    FINISHED,
    STOPPED,
    TRIALS,
    TrialResult,
    as_csv,
    best_of,
    print_trials,
    write,
)
from lab.tune.plan import score
from tests.support.tune import plan

WORDS = (
    "learner.learning_rate=1e-4..2e-3:log",
    "learner.hidden=[64,64],[256]",
    "imitation.expert=0.1..3",
    "learner.cosine_updates=none,1000",
)
DRAWN = {
    "learner.learning_rate": 3.3e-4,
    "learner.hidden": [64, 64],
    "imitation.expert": 0.7,
    "learner.cosine_updates": "none",
}


def result(number: int, state: str, value: float, **drawn: Any) -> TrialResult:
    return TrialResult(number, state, value, value + 1, 400, 2.5, drawn or DRAWN)


def learning(config: Config) -> Any:
    tree = config.model_dump(mode="json", exclude=set(ELSEWHERE))
    del tree["trainer"]["device"], tree["replay"]["device"]
    return tree


def test_best_settings_are_a_file_that_the_server_takes(tmp_path: Path) -> None:
    """Read as `serve --config` reads it, it gives what the trial was played with."""
    what = plan(*WORDS, replay__prioritized=True, server__port=7001)
    bad, good = result(0, FINISHED, 1.0), result(1, FINISHED, 2.0)
    write(tmp_path, what, [bad, good])
    (played,) = what.trial(1, DRAWN).configs
    read = load(Overrides(file=tmp_path / BEST), {}).config
    assert learning(read) == learning(played)
    assert (read.learner.hidden, read.learner.learning_rate) == ((64, 64), 3.3e-4)
    assert (read.imitation.expert.start, read.imitation.expert.end) == (0.7, 0.7)
    assert read.replay.prioritized
    assert read.server.port == Config().server.port  # where to listen is not learning
    text = (tmp_path / BEST).read_text()
    assert "Trial 1 " in text
    assert "OneRight-v0" in text
    assert "device" not in text


def test_settings_of_a_preset_are_kept_in_the_file(tmp_path: Path) -> None:
    """The file stands for itself: without the preset it gives the same."""
    base = config_from({}, preset="original")
    what = plan(*WORDS, advantage__signal=base.advantage.signal)
    write(tmp_path, what, [result(0, FINISHED, 1.0)])
    read = load(Overrides(file=tmp_path / BEST), {}).config
    assert read.advantage.signal == base.advantage.signal != Config().advantage.signal


def test_without_a_finished_trial_there_are_no_best_settings(tmp_path: Path) -> None:
    trials = [result(0, STOPPED, math.nan), result(1, FAILED, math.nan)]
    assert best_of(trials) is None
    write(tmp_path, plan(*WORDS), trials)
    assert not (tmp_path / BEST).exists()
    assert (tmp_path / TRIALS).exists()


def test_table_has_a_column_for_each_setting() -> None:
    failed = TrialResult(1, FAILED, math.nan, math.nan, 0, 0.5, DRAWN, 'it said "no", twice')
    rows = list(csv.DictReader(io.StringIO(as_csv([result(0, FINISHED, 1.25), failed]))))
    assert [row["score"] for row in rows] == ["1.25", ""]
    assert rows[0]["learner.hidden"] == "[64, 64]"
    assert rows[1]["error"] == failed.error
    assert as_csv([]).startswith("trial,state,score")


def test_trials_are_shown_with_the_best_first() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    failed = result(4, FAILED, math.nan)
    stopped = TrialResult(3, STOPPED, math.nan, 7.0, 200, 1.0, DRAWN)
    shown = [
        result(0, FINISHED, 1.0),
        stopped,
        failed,
        result(5, FINISHED, 9.0),
    ]
    print_trials(console, shown, {"learner.gamma": 0.75, "learner.n_step": 0.25})
    lines = console.export_text().splitlines()
    first = [line.split()[0] for line in lines if line[:5].strip().isdigit()]
    assert first == ["5", "0", "3", "4"]
    assert "learning_rate 0.00033, hidden [64, 64], expert 0.7" in "".join(lines)
    assert lines[-1] == "what made the difference: learner.gamma 75%, learner.n_step 25%"
    print_trials(console, [], {})
    assert console.export_text() == "no trial has ended yet\n"


@pytest.mark.parametrize(
    ("means", "expected"),
    [([5.0], 5.0), ([0.0, 6.0], 6.0), ([9.0, 0.0, 2.0, 4.0], 3.0), ([9.0] * 4 + [1.0, 3.0], 2.0)],
)
def test_score_is_the_mean_of_the_last_third(means: list[float], expected: float) -> None:
    assert score(means) == expected
