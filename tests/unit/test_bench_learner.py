"""The bench of the learner: its lines, on shapes small enough for a test."""

from __future__ import annotations

import pytest
import torch

from lab.bench import learner as bench_learner

SMALL = {"rows": 64, "inputs": 3, "hidden": [8], "choices": 2, "threads": 1}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_learner, "HYBRID", SMALL)
    monkeypatch.setattr(
        bench_learner,
        "SHAPES",
        (SMALL, SMALL | {"precision": "bfloat16"}, SMALL | {"inputs": 5}),
    )
    monkeypatch.setattr(bench_learner, "best_of", once)


def once(case: object, _device: str) -> float:
    assert callable(case)
    case()
    return 0.5


def test_measure_yields_one_row_per_shape_and_precision() -> None:
    threads = torch.get_num_threads()
    first, half, other = bench_learner.measure("cpu", rounds=1)
    assert torch.get_num_threads() == threads
    assert first["case"] == "learner"
    assert (first["precision"], half["precision"], other["precision"]) == (
        "float32",
        "bfloat16",
        "float32",
    )
    assert first["updates_per_s"] == 2.0
    assert first["samples_per_s"] == 128


def test_measure_reports_older_system_ratio_only_at_its_shape() -> None:
    first, half, other = bench_learner.measure("cpu", rounds=1)
    assert first["updates_of_older"] == half["updates_of_older"] == 0.28  # 2 / 7.05
    assert "updates_of_older" not in other
