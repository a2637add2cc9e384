"""An expert of the server's own that gives nothing back (tests/e2e/test_soak.py names it)."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import numpy.typing as npt

BYTES_PER_S, FILES_PER_S = 20 * 2**20, 20
"""By the clock and not by the frame, so that a slow machine leaks as fast."""

_BLOCK = 2**16

_began = time.monotonic()
_kept: list[bytes] = []
_open: list[int] = []


def act(_obs: object, situation: Any) -> npt.NDArray[np.float32]:
    seconds = time.monotonic() - _began
    while len(_kept) * _BLOCK < seconds * BYTES_PER_S:
        _kept.append(b"x" * _BLOCK)
    while len(_open) < min(seconds * FILES_PER_S, 500):
        _open.append(os.dup(2))
    return np.full((len(situation.streams), 1), np.nan, np.float32)
