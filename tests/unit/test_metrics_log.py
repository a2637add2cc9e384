"""Rows of metrics over weeks: bounded, and found again."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from server.run import history, metrics_log
from server.run.history import KEPT
from server.run.metrics_log import MetricsLog

NAMES = ["metrics.older.jsonl", "metrics.1.jsonl", "metrics.jsonl"]
"""The oldest first."""


def row(number: int) -> dict[str, int | str]:
    return {"time": number, "x": "y" * 80}


LINE = len(json.dumps(row(100_000))) + 1
"""Bytes of one, about."""


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is full after 600 rows, and long."""
    monkeypatch.setattr(metrics_log, "FULL", 600 * LINE)
    monkeypatch.setattr(history, "SHORT_FILE", 100 * LINE)


def row_times(path: Path) -> list[int]:
    """Of all rows of a file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["time"] for line in lines]


def test_metrics_log_keeps_new_rows_and_thins_old_ones(tmp_path: Path) -> None:
    kept = MetricsLog(tmp_path / "metrics.jsonl")
    for number in range(100_000, 110_000):
        kept.add(row(number))
    older, before, newest = (row_times(tmp_path / name) for name in NAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    assert [*before, *newest] == list(range(before[0], 110_000))
    assert len(before) == 600
    assert len(newest) < 600
    assert older == list(range(100_000, before[0], metrics_log.THINNED))


@pytest.mark.parametrize("n", [0, 1, 599, 600, 601, 1300, 30_000])
def test_metrics_log_sample_covers_whole_time_evenly(tmp_path: Path, n: int) -> None:
    kept = MetricsLog(tmp_path / "metrics.jsonl")
    assert kept.sample() == []
    for number in range(100_000, 100_000 + n):
        kept.add(row(number))
    for most in (50, KEPT):
        found = [each["time"] for each in MetricsLog(tmp_path / "metrics.jsonl").sample(most)]
        assert len(found) <= most
        assert found == sorted(set(found))
        if n:
            assert (found[0], found[-1]) == (100_000, 100_000 + n - 1)
        # From even distances, however old: no hour has many more of them than another.
        assert max((b - a for a, b in pairwise(found)), default=0) <= max(2.5 * n / most, 61)


def test_metrics_log_on_full_disk_keeps_rows_and_thins_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full just then: nothing is lost, and it is done when there is room."""
    kept = MetricsLog(tmp_path / "metrics.jsonl")
    whole = metrics_log.append_whole

    def full(path: Path, data: bytes) -> None:
        if path.name == NAMES[0]:
            raise OSError(28, "No space left on device")
        whole(path, data)

    monkeypatch.setattr(metrics_log, "append_whole", full)
    failed = 0
    for number in range(100_000, 101_300):
        try:
            kept.add(row(number))
        except OSError:
            failed += 1
    assert failed > 90
    _, before, newest = (row_times(tmp_path / name) for name in NAMES)
    assert [*before, *newest] == list(range(100_000, 101_300))
    monkeypatch.setattr(metrics_log, "append_whole", whole)
    kept.add(row(101_300))
    older, before, newest = (row_times(tmp_path / name) for name in NAMES)
    assert older == list(range(100_000, 100_600, metrics_log.THINNED))
    assert before == list(range(100_600, 101_301))
    assert newest == []
