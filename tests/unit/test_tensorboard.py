"""Metrics as TensorBoard's event files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from server.monitor.tensorboard import TensorBoardWriter

pytest.importorskip("tensorboard")


def test_tensorboard_row_without_frames_is_skipped(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = TensorBoardWriter(tmp_path)
    # A resumed run, before the trainer has read its checkpoint.
    files.add({"time": 1.0, "frames": math.nan, "slots": 2.0})
    files.add({"time": 2.0, "frames": 700.0, "slots": 3.0, "loss": math.nan})
    files.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == ["run/frames", "run/slots"]
    assert [(e.step, e.value) for e in events.Scalars("run/slots")] == [(700, 3.0)]
