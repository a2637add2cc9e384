"""Blocks of rows between machines: the columns of a StepBlock in one array of bytes.

Both ends know the game, so the bytes are nothing but numbers: nobody unpickles what a game sent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from agent.step import StepBlock
from protocol.spaces import GameSpec


def packed(block: StepBlock, spec: GameSpec, memory: int) -> npt.NDArray[np.uint8]:
    """A copy of the rows, uint8 [StepBlock.nbytes]."""
    out = np.empty(StepBlock.nbytes(spec, len(block), memory), np.uint8)
    copy = StepBlock.over(out, spec, len(block), memory)
    for name in StepBlock.__slots__:
        getattr(copy, name)[...] = getattr(block, name)
    return out


def unpacked(columns: Any, rows: int, spec: GameSpec, memory: int) -> StepBlock:
    """The rows of `packed`, as views. Errors: ValueError for another number of bytes."""
    expected = StepBlock.nbytes(spec, rows, memory)
    if len(columns) != expected:
        raise ValueError(f"expected {expected} bytes for {rows} rows, got {len(columns)}")
    return StepBlock.over(columns, spec, rows, memory)
