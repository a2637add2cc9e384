"""A run's numbers over all its time, in bounded memory."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from server.run import history
from server.run.history import KEPT, History, newest_lines, sample_lines
from tests.support.cases import for_each


def write(path: Path, n: int, pad: int = 0) -> None:
    with path.open("w") as file:
        for i in range(n):
            file.write(json.dumps({"time": i, "x": "y" * (pad * (i % 7))}) + "\n")


@pytest.fixture(params=["short", "long"])
def long_file(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether files are long: then single lines are looked for in them."""
    if request.param == "long":
        monkeypatch.setattr(history, "SHORT_FILE", 0)
        monkeypatch.setattr(history, "_LONG_LINE", 512)
    return bool(request.param == "long")


@pytest.mark.parametrize("n", [1, 2, 99, 100, 101, 5000])
@pytest.mark.parametrize("pad", [0, 50])
def test_sample_lines_are_evenly_spaced(tmp_path: Path, n: int, pad: int, long_file: bool) -> None:
    path = tmp_path / "lines.jsonl"
    write(path, n, pad)
    times = [row["time"] for row in sample_lines(path, 100)]
    assert times == sorted(set(times))
    assert (times[0], times[-1]) == (0, n - 1)
    if not long_file:
        assert len(times) == min(n, 100)
    # By bytes, short lines are passed over sooner than long ones.
    gaps = [b - a for a, b in pairwise(times)]
    assert max(gaps, default=0) <= max(3 if long_file else 1, 2.5 * n / 100)


def test_sample_lines_skip_invalid_lines(tmp_path: Path, long_file: bool) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(
        b'{"time": 1}\n\n[1]\n\xff\xfe\n{"time": 2, "x": NaN}\n{"time": 3}\n{"time": 4, "fra'
    )
    assert [row["time"] for row in sample_lines(path)] == [1, 3], long_file
    path.write_bytes(b"")
    assert sample_lines(path) == sample_lines(tmp_path / "nothing") == []


def test_sample_lines_long_file_decodes_only_sampled_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_file: bool
) -> None:
    path = tmp_path / "lines.jsonl"
    write(path, 20_000, 20)
    read = 0
    real = history._decoded

    def decoded(line: bytes) -> list[dict[str, Any]]:
        nonlocal read
        read += 1
        return real(line)

    monkeypatch.setattr(history, "_decoded", decoded)
    assert len(sample_lines(path, 50)) == 50
    assert read == (50 if long_file else 20_000)


def test_newest_lines_returns_last_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines.jsonl"
    assert newest_lines(path) == []
    write(path, 100, 5)
    assert [row["time"] for row in newest_lines(path)] == list(range(100))
    assert [row["time"] for row in newest_lines(path, 3)] == [97, 98, 99]
    monkeypatch.setattr(history, "SHORT_FILE", 200)
    times = [row["time"] for row in newest_lines(path)]
    assert 2 < len(times) < 20
    assert times == list(range(100 - len(times), 100))


def test_rows_contain_only_columns_and_null_for_non_finite() -> None:
    one = History(["time", "a"], [{"time": 1, "b": 2}])
    one.add({"time": 2.0, "a": float("nan")})
    one.add({"time": 3.0, "a": float("inf")})
    one.add({"time": 4.0, "a": 5.0})
    assert one.rows(10) == [[1, None], [2.0, None], [3.0, None], [4.0, 5.0]]


@for_each([1, 2, 3, 7, 599, 600, 4096, 10_000], [1, 2, 600, KEPT, KEPT + 1, 3 * KEPT + 5])
def test_rows_downsampled_to_requested_points_including_newest(points: int, n: int) -> None:
    one = History(["time"])
    for i in range(n):
        one.add({"time": i})
    times = [row[0] for row in one.rows(points)]
    assert len(times) <= points
    assert len(times) >= min(points, n, KEPT // 2)
    assert times == sorted(set(times))
    every = max(1, -(-n // (KEPT // 2)))
    assert times[-1] >= n - 2 * every
    if points > 1:
        assert times[0] == 0


def test_rows_loaded_and_added_form_one_series() -> None:
    one = History(["time"], ({"time": i} for i in range(3 * KEPT)))
    for i in range(3 * KEPT, 3 * KEPT + 100):
        one.add({"time": i})
    times = [row[0] for row in one.rows(KEPT)]
    assert times[0] == 0
    assert times[-1] >= 3 * KEPT + 90
    assert len(times) > KEPT // 2
