"""The bench against Stable-Baselines3: our side of it, for theirs need not be installed."""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

import pytest

from agent.learner import Learner
from config.load import ConfigError
from lab.bench import command as bench
from lab.bench import sb3
from lab.bench.sb3 import GameSpeed
from lab.load.process import LoadProcess


def arguments(*cases: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(cases)


def without_sb3(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def find(name: str) -> Any:
        return None if name == "stable_baselines3" else found(name)

    monkeypatch.setattr(importlib.util, "find_spec", find)


@pytest.mark.parametrize("case", bench.COMPARED)
def test_bench_sb3_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    without_sb3(monkeypatch)
    with pytest.raises(ConfigError, match=r"pip install .*constraints.txt stable-baselines3"):
        list(bench.run(arguments(case), print))


def test_bench_skips_cases_without_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    without_sb3(monkeypatch)
    for module in (bench.bench_replay, bench.bench_learner):
        monkeypatch.setattr(module, "measure", lambda **_: [])
    monkeypatch.setattr(bench, "CASES", ("replay", "learner", "update", "game"))
    said: list[str] = []
    assert [row["case"] for row in bench.run(arguments(), said.append)] == ["machine"]
    assert any("not installed" in line for line in said)


def test_bench_update_makes_as_many_optimizer_steps_as_are_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sb3, "STORED", 2000)
    make, made = sb3.make_learner, []

    def keep(*given: Any) -> Learner:
        made.append(make(*given))
        return made[-1]

    monkeypatch.setattr(sb3, "make_learner", keep)
    updates = sb3.our_updates(inputs=3, hidden=[8], choices=2, batch_size=16)
    (learner,) = made
    assert learner.updates == 0
    updates(1)
    assert learner.updates == 1
    updates(3)
    assert learner.updates == 4


def test_bench_process_answers_with_the_time_of_an_update() -> None:
    shape = {"inputs": 3, "hidden": [8], "choices": 2, "batch_size": 16}
    with LoadProcess(sb3.updates_process, False, shape) as process:
        assert 0 < process.ask(1, timeout_s=300) < 1
        assert 0 < process.ask(2, timeout_s=300) < 1


def test_bench_rounds_alternate_and_ratios_compare_within_a_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = iter([GameSpeed(100.0, 0.25), GameSpeed(200.0, 0.25), GameSpeed(400.0, 0.25)])
    ours = {
        "float32": iter([GameSpeed(300.0, 0.2), GameSpeed(400.0, 0.25), GameSpeed(400.0, 0.25)]),
        "bfloat16": iter([GameSpeed(300.0, 0.2), GameSpeed(800.0, 0.25), GameSpeed(800.0, 0.25)]),
    }
    monkeypatch.setattr(sb3, "their_game", lambda *_: next(theirs))
    monkeypatch.setattr(sb3, "our_game", lambda *given: next(ours[given[2]]))
    said: list[str] = []
    rows = list(sb3.measure_game(1000, 3, said.append))
    assert [row["precision"] for row in rows] == ["float32", "bfloat16"]
    assert [(row["fps"], row["sb3_fps"], row["fps_of_sb3"]) for row in rows] == [
        (400, 200, 2.0),
        (800, 200, 3.0),
    ]
    for row in rows:
        assert (row["updates_per_frame"], row["sb3_updates_per_frame"]) == (0.25, 0.25)
    assert ["Stable" in line for line in said] == [True, False, False] * 3


@pytest.mark.alone
def test_bench_game_makes_one_update_per_four_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sb3, "HIDDEN", [16])
    monkeypatch.setattr(sb3, "WARM_UP", 400)
    monkeypatch.setattr(sb3, "LEARN_FROM", 200)
    monkeypatch.setattr(sb3, "LAG", 4)  # of the hundred updates of so short a game
    played = sb3.our_game(400, clients=2, precision="bfloat16")
    assert played.frames_per_s > 0
    assert played.updates_per_frame == pytest.approx(0.25, rel=0.1)
