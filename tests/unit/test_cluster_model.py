from __future__ import annotations

from dataclasses import replace

import pytest

from lab.bench.cluster_model import MeasuredCosts, frames_per_s, rows, update_s

COSTS = MeasuredCosts(
    frames_per_s=20_000, ship_cpu_s=5e-6, take_in_per_s=200_000, row_bytes=1000,
    update_s=0.040, half_update_s=0.022, gather_s=0.0002, parameters=500_000,
)  # fmt: skip


def test_nodes_serve_what_their_gateways_answer_less_what_shipping_takes() -> None:
    one = frames_per_s(COSTS, 1, 1, 10.0)
    assert one == pytest.approx(1 / (1 / 20_000 + 5e-6))
    assert frames_per_s(COSTS, 8, 8, 10.0) == pytest.approx(8 * one)


def test_serving_ends_where_learners_or_the_network_have_enough() -> None:
    assert frames_per_s(COSTS, 16, 1, 100.0) == 200_000
    assert frames_per_s(replace(COSTS, row_bytes=100_000), 8, 1, 1.0) == 1250


def test_shared_update_has_its_part_of_the_rows_and_the_sum_over_the_network() -> None:
    assert update_s(COSTS, 1, 1.0) == COSTS.update_s
    # Of 40 ms 4 are there whatever the rows; 2 MB and 6 gathers beside half of the others.
    wanted = 0.004 + 0.018 + 2_000_000 * 8 / 1e9 + 6 * 0.0002
    assert update_s(COSTS, 2, 1.0) == pytest.approx(wanted)
    assert update_s(COSTS, 8, 1.0) > 0.004 + 2 * 7 / 8 * 2_000_000 * 8 / 1e9


def test_every_row_of_the_model_says_that_it_is_simulated() -> None:
    found = list(rows(COSTS))
    assert {row["nodes"] for row in found} == {1, 2, 4, 8}
    assert all(row["simulated"] for row in found)
