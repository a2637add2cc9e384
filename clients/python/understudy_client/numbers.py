"""Numbers of the game beside its rewards: what a game says in `metrics`.

Every error is a ValueError, and nothing is sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from understudy_client.tensors import dtype_of

MAX_NUMBERS = 32


def check_names(names: Sequence[str]) -> list[str]:
    """The names that HELLO declares."""
    found = list(names)
    good = isinstance(names, list | tuple) and all(isinstance(name, str) for name in found)
    if not good or len(found) > MAX_NUMBERS or len(set(found)) < len(found):
        raise ValueError(f"metrics: expected at most {MAX_NUMBERS} names, each once, got {names!r}")
    return found


def packed(names: Sequence[str], metrics: Mapping[str, float]) -> list[float | None]:
    """What a frame tells, by name, as it travels; a name that is missing has no number now."""
    if unknown := sorted(metrics.keys() - set(names)):
        raise ValueError(
            f"metrics: expected names of those declared ({', '.join(names) or 'none'}), got "
            f"{', '.join(unknown)}; declare them in connect(metrics=...)"
        )
    found = [None if metrics.get(name) is None else float(metrics[name]) for name in names]
    for name, value in zip(names, found, strict=True):
        if value is not None and not math.isfinite(value):
            raise ValueError(f"metrics, {name}: expected a finite number, got {value}")
    return found


def packed_all(names: Sequence[str], metrics: npt.ArrayLike, slots: int) -> bytes:
    """What the frames of so many slots tell: numbers [slots, names], NaN for none."""
    found = np.asarray(metrics)
    if found.dtype.kind not in "fiu" or found.shape != (slots, len(names)):
        raise ValueError(
            f"metrics: expected numbers [{slots}, {len(names)}], a column for each declared name, "
            f"got {dtype_of(found)} {list(found.shape)}"
        )
    if np.isinf(found).any():
        raise ValueError("metrics: expected finite numbers, NaN for none, got infinity")
    return found.astype("<f4").tobytes()
