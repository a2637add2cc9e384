"""A clock that somebody sets while processes look at it.

Python imports a module of this name when it starts. With this folder first on PYTHONPATH, the time
of day is wrong by as many seconds as the file says that CLOCK_FILE names, in all processes at once.
Clocks that nobody can set (`time.monotonic`) are as they were, as on a real machine.
"""

from __future__ import annotations

import os
import time
from pathlib import Path


def _wrong_by(file: Path) -> None:
    of_day, of_day_ns = time.time, time.time_ns
    time.time = lambda: of_day() + float(file.read_text())
    time.time_ns = lambda: of_day_ns() + int(1e9 * float(file.read_text()))


if name := os.environ.get("CLOCK_FILE"):
    _wrong_by(Path(name))
