"""A game with masks: two discrete heads of 3 and 7 choices around a continuous one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from protocol.spaces import Continuous, Discrete, GameSpec, Observation

MASKED = GameSpec(
    "masked",
    Observation("float32", (4,)),
    (Discrete("row", 3), Continuous("push", -1.0, 1.0, 1), Discrete("column", 7)),
    masks=True,
).checked()


def mask(row: tuple[int, ...], column: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """The mask in which these choices are legal, bool [10]."""
    out = np.zeros(10, np.bool_)
    out[list(row)] = True
    out[[3 + choice for choice in column]] = True
    return out


def bits(*masks: npt.NDArray[np.bool_]) -> bytes:
    """Masks as they travel."""
    return np.packbits(np.stack(masks), axis=1, bitorder="little").tobytes()
