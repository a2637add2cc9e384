"""Masks of a batch of frames: unpacked, and held against what is recommended and was done."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from protocol.actor import NOBODY
from protocol.errors import RemoteError
from protocol.masks import ALL_LEGAL, are_legal, has_choice, illegal, no_choice, unpacked
from protocol.messages import RUNNING
from protocol.spaces import GameSpec
from server.gateway.frame_batch import FrameBatch
from server.gateway.slots import SlotTable


def refuse_illegal(batch: FrameBatch, table: SlotTable, spec: GameSpec) -> None:
    """Unpack the masks. End the connections of running frames without a legal choice, and of those
    whose `expert`, or whose `took` by the mask of the frame before, is not legal; their frames are
    dropped.

    Behind the last frame of an episode nothing need be legal: where a head has nothing, nothing is
    known of what could have been done, and all choices count.
    """
    n = batch.n
    batch.choices[:n] = unpacked(batch.legal[:n], spec)
    possible = has_choice(batch.choices[:n], spec)
    running = batch.status[:n] == RUNNING
    if not possible.all():
        over = ~(running | possible.all(axis=1))
        batch.legal[:n][over], batch.choices[:n][over] = ALL_LEGAL, True
        _refuse(batch, possible | ~running[:, None], lambda _row, head: no_choice(head, spec))
    if (given := ~np.isnan(batch.expert[: batch.n, 0])).any():
        expert, legal = batch.expert[: batch.n], batch.choices[: batch.n]
        _refuse_actions(batch, "what the expert recommends", given, expert, legal, spec)
    if (given := batch.took_actor[: batch.n] != NOBODY).any():
        took, before = batch.took[: batch.n], table.legal[batch.row[: batch.n]]
        _refuse_actions(batch, "what was done (took)", given, took, unpacked(before, spec), spec)


def _refuse_actions(
    batch: FrameBatch,
    what: str,
    given: npt.NDArray[np.bool_],
    actions: npt.NDArray[np.float32],
    legal: npt.NDArray[np.bool_],
    spec: GameSpec,
) -> None:
    """Of the actions that are `given` [n], [n, action_width], refuse those that are not `legal`
    [n, choices]."""
    good = np.ones((len(given), len(spec.discrete)), np.bool_)
    good[given] = are_legal(actions[given], legal[given], spec)
    _refuse(batch, good, lambda row, head: illegal(what, actions[row], legal[row], head, spec))


def _refuse(
    batch: FrameBatch, good: npt.NDArray[np.bool_], error: Callable[[int, int], RemoteError]
) -> None:
    """Refuse the frames of which a head is not `good` [n, heads], with `error` of row and head."""
    if not good.all():
        fair = np.asarray(good.all(axis=1))
        heads = np.argmin(good, axis=1)
        batch.refuse(fair, lambda row: error(row, int(heads[row])))
