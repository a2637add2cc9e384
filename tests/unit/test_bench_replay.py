"""The bench of the replay: its lines, on a replay small enough for a test."""

from __future__ import annotations

import pytest

from lab.bench import replay as bench_replay
from lab.bench.replay import measure_one

PARAMETERS = {"capacity": 3000, "observations": 5, "batch": 512, "block": 256, "repeats": 3}


@pytest.mark.parametrize("prioritised", [False, True])
def test_measure_one_row_has_expected_fields(prioritised: bool) -> None:
    row = measure_one(**PARAMETERS, prioritised=prioritised)  # type: ignore[arg-type]
    assert row["case"] == "replay"
    assert row["prioritised"] is prioritised
    assert ("update_ms" in row) == prioritised
    assert (row["capacity_steps"], row["batch_size"], row["observations"]) == (3000, 512, 5)
    assert row["append_steps_per_s"] > 0
    both = row["ms"] + row.get("update_ms", 0)
    # Of numbers that are rounded to a microsecond.
    assert row["ms_of_gather"] == pytest.approx(both / row["gather_ms"], rel=0.3)
    assert row["bytes_per_step"] == pytest.approx(69 + (8 if prioritised else 0))


def test_measure_covers_uniform_and_prioritized_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_replay, "measure_one", lambda **given: given)
    assert list(bench_replay.measure("cpu")) == [
        {"device": "cpu", "prioritised": False},
        {"device": "cpu", "prioritised": True},
    ]
