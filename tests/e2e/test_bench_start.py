"""The bench of starts, in a short form: each figure is of what it says."""

from __future__ import annotations

import pytest

from lab.bench import start

pytestmark = pytest.mark.timeout(300)


@pytest.mark.usefixtures("no_leaks")
def test_start_is_measured_from_process_to_first_answer() -> None:
    row = start.measure_start(rounds=1)
    assert 0 < row["listening_s"] <= row["welcome_s"] <= row["first_action_s"]
    assert row["cpu_s"] > 0.5, "the server's processes import torch"
    assert row["of_torch"] == pytest.approx(row["first_action_s"] / row["torch_s"], rel=0.02)


@pytest.mark.usefixtures("no_leaks")
def test_killed_trainer_is_measured_until_its_next_update() -> None:
    row = start.measure_killed_trainer(
        kept=3000, config={"learner.hidden": [8], "learner.batch_size": 16}
    )
    assert row["rows"] >= 3000
    assert 0 <= row["reading_s"] < row["next_update_s"]


@pytest.mark.parametrize("block", [1, 512])
def test_reading_is_measured_for_each_length_of_block(block: int) -> None:
    row = start.measure_reading(rows=2000, block=block, repeats=1)
    assert row["rows"] == 2000
    assert row["bytes"] > 2000 * 195 * 4
    assert row["read_s"] > 0
    assert row["bound_s"] > 0
