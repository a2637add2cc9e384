"""What gateways have answered for, counted in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from server.ipc.inflight import InFlight, InFlightCounters, cells, left


def test_left_returns_sum_of_counted_cells(tmp_path: Path) -> None:
    path = tmp_path / "in-flight"
    InFlightCounters(path, 1000, 2)
    assert left(path) == (1000, 0)
    cells(path, 0)[:] = 30, 2
    cells(path, 1)[:] = 12, 3
    assert left(path) == (1042, 5)


def test_gateway_gone_returns_frames_missing_from_ring(tmp_path: Path) -> None:
    in_flight = InFlightCounters(tmp_path / "in-flight", 0, 2)
    cells(in_flight.path, 1)[:] = 30, 2
    assert in_flight.gateway_gone(1, 28) == InFlight(steps=2, frames=2)
    assert in_flight.gateway_gone(1, 28) == InFlight(), "the next one goes on from the ring"
    assert left(in_flight.path) == (28, 0)


def test_left_after_remove_returns_none(tmp_path: Path) -> None:
    in_flight = InFlightCounters(tmp_path / "in-flight", 5, 1)
    in_flight.remove()
    assert left(in_flight.path) is None
    in_flight.remove()


def test_left_invalid_file_returns_none(tmp_path: Path) -> None:
    path = tmp_path / "in-flight"
    for content in (b"", b"1234567", bytes(24), np.arange(9).tobytes()):
        path.write_bytes(content)
        assert left(path) is None


def test_new_counters_reset_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "in-flight"
    InFlightCounters(path, 0, 2)
    cells(path, 1)[:] = 7, 7
    InFlightCounters(path, 7, 1)
    assert left(path) == (7, 0)
