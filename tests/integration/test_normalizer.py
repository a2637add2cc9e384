"""Running statistics against NumPy over all rows at once."""

from __future__ import annotations

import numpy as np
import pytest

from agent.normalizer import SMALLEST_DEVIATION, RunningStatistics


@pytest.mark.parametrize("sizes", [(100,), (1, 1, 98), (40, 0, 60)])
def test_statistics_do_not_depend_on_block_sizes(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal([0.0, 1e4, -3.0], [1.0, 0.01, 50.0], (100, 3)).astype(np.float32)
    found = RunningStatistics(3)
    start = 0
    for size in sizes:
        found.update(rows[start : start + size])
        start += size
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(found.mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.scale, 1 / exact.std(0, ddof=1), rtol=1e-9)
    other = RunningStatistics(3)
    other.set_state(found.get_state())
    other.update(rows)
    found.update(rows)
    np.testing.assert_array_equal(other.scale, found.scale)


def test_constant_or_unseen_inputs_are_not_amplified() -> None:
    found = RunningStatistics(2)
    assert found.scale.tolist() == [1, 1]
    found.update(np.array([[3.0, 0.0]]))
    assert found.scale.tolist() == [1, 1]
    found.update(np.array([[3.0, 2.0]]))
    assert found.scale.tolist() == pytest.approx([1 / SMALLEST_DEVIATION, 1 / np.sqrt(2)])
