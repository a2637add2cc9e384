"""The answer to a frame of all slots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Answers:
    """The answer to a frame of all slots. The arrays are read-only.

    A slot whose frame ended its episode has NaN in `actions` and 0 in `actors`.
    """

    seq: int
    actions: npt.NDArray[np.float32]
    """Action rows, [slots, A] (see understudy_client.spec)."""
    actors: npt.NDArray[np.uint8]
    """1 dqn, 2 expert, 0 none, [slots]."""
    policy_version: int
    explored: npt.NDArray[np.bool_]
    """True where dqn acted at random, [slots]."""
