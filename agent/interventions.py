"""Who the expert was: rows in which somebody took over from the network, or from a script.

No column says so, for those that there are do: an action of the expert is the recommendation of
its frame, unless the game told of another one (`took`), as it does for a person at the controls.
Rows whose policy version is not known have no recommendations either, and say nothing: those of
version 1, and of datasets from elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agent.step import StepBlock
from protocol.actor import Actor


class Interventions(NamedTuple):
    """Those in some rows."""

    times: int
    """Runs of such steps, one behind the other in one stream."""
    steps: int


def taken_over(rows: StepBlock) -> npt.NDArray[np.bool_]:
    """Which rows are steps in which somebody took over, bool [n]."""
    same = np.all(rows.action == rows.recommended, axis=1)
    of_expert = (rows.actor == Actor.EXPERT) & (rows.policy_version > 0)
    found: npt.NDArray[np.bool_] = of_expert & ~same
    return found


def interventions(rows: StepBlock) -> Interventions:
    """How often somebody took over, and for how many steps."""
    order = np.lexsort((rows.seq, rows.stream))
    found, stream, seq = taken_over(rows)[order], rows.stream[order], rows.seq[order]
    goes_on = np.append(False, found[:-1] & (stream[1:] == stream[:-1]) & (np.diff(seq) == 1))
    return Interventions(int(np.count_nonzero(found & ~goes_on)), int(np.count_nonzero(found)))
