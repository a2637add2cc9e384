"""Recordings made by hand."""

from __future__ import annotations

import numpy as np

from agent.recording import Recording
from agent.step import FINAL, STEP, StepBlock
from protocol.spaces import GameSpec
from tests.support.worlds import EXPERT, SPEC


def demonstrated(
    streams: int = 2, n: int = 5, spec: GameSpec = SPEC, reward: float = 3.0
) -> Recording:
    """Episodes of `n` steps of the expert, each a stream with a final row behind it."""
    block = StepBlock.empty(spec, streams * (n + 1))
    seq = np.tile(np.arange(n + 1), streams)
    block.stream[:] = np.repeat(np.arange(streams) + 77, n + 1)
    block.seq[:] = seq
    block.obs[:] = seq[:, None]
    block.kind[:] = np.where(seq < n, STEP, FINAL)
    block.actor[:] = np.where(seq < n, EXPERT, 0)
    block.reward[:] = np.where(seq < n, reward, 0)
    block.status[:] = np.where(seq == n - 1, 1, 0)
    return Recording(spec, block, (1.0,))
