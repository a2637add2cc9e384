"""TensorBoard event files of the metrics, in `tensorboard/` of the run directory.

What has a label, and what the game names itself, is in one group: `td_err_mean/dqn` beside
`td_err_mean/expert`; everything else is in the group `run`. The step is the run's stored frames.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from config.load import ConfigError
from server.monitor.game_metrics import is_game_metric
from server.monitor.metrics import SERIES

RETRY_S = 60.0
"""Wait after a failure before a new event file is started."""


def tag(name: str) -> str:
    """The tag of a metric in TensorBoard, from its name in a row."""
    if is_game_metric(name):
        return name
    series = SERIES.get(name)
    return f"{series.metric.name}/{series.value}" if series and series.value else f"run/{name}"


class TensorBoardWriter:
    """Writes rows of metrics. Errors: ConfigError without the package tensorboard."""

    def __init__(self, folder: Path) -> None:
        """`folder`: created if missing; each start of a run adds a file."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError(
                "metrics.tensorboard: expected the package tensorboard, which is not installed; "
                "install it (pip install tensorboard), or remove the setting"
            ) from None
        # A thread of the package writes, so that a slow disk delays nothing here.
        self._open: Callable[[], Any] = lambda: SummaryWriter(str(folder))
        self._writer: Any = None  # its file is made with the first row
        self._again = 0.0
        """When to try again after the writer has failed, by `time.monotonic`."""

    def add(self, row: Mapping[str, float]) -> None:
        """Write a row of metrics, without its NaNs. A row of a resumed run that does not know its
        frames yet is left out: it has no step. Errors: OSError if the disk is full; then this
        writer is dropped, and RETRY_S later a new file is started."""
        if not math.isfinite(row["frames"]):
            return
        if self._writer is None:
            if time.monotonic() < self._again:
                return
            self._writer = self._open()
        step = int(row["frames"])
        try:
            for name, value in row.items():
                if name != "time" and math.isfinite(value):
                    self._writer.add_scalar(tag(name), value, step, walltime=row["time"])
        except OSError:
            self._writer, self._again = None, time.monotonic() + RETRY_S
            raise

    def close(self) -> None:
        """Write what is buffered. Errors: OSError."""
        if self._writer is not None:
            self._writer.close()
