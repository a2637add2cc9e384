"""Legal choices of frames that are played: masks as NumPy arrays, without torch.

The supervisor imports this too, by way of the gateway's tables; agent.legal has masks as tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def random_legal(
    legal: npt.NDArray[np.bool_], columns: slice, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """For each of n masks [n, choices] a choice of the head with these columns, each legal one as
    likely as the others, [n]. Every head has a legal choice."""
    of_head = legal[:, columns]
    counts = of_head.sum(axis=1)
    wanted = rng.integers(counts)
    found: npt.NDArray[np.intp] = (of_head.cumsum(axis=1) > wanted[:, None]).argmax(axis=1)
    return found


def made_legal(
    rows: npt.NDArray[np.float32],
    legal: npt.NDArray[np.bool_],
    discrete_columns: Sequence[int],
    choice_columns: Sequence[slice],
) -> None:
    """In n action rows [n, action_width], give each choice that is not legal by its mask
    [n, choices] the first legal one of its head instead, in place."""
    for column, columns in zip(discrete_columns, choice_columns, strict=True):
        of_head = legal[:, columns]
        allowed = of_head[np.arange(len(rows)), rows[:, column].astype(np.intp)]
        np.copyto(rows[:, column], of_head.argmax(axis=1), where=~allowed, casting="unsafe")
