"""Masks of legal choices: what a game says in `legal`, as bits.

A mask has a bool for each choice of each discrete head, one head behind the other. Every error is a
ValueError, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from understudy_client.spec import Discrete, GameSpec, Part
from understudy_client.tensors import array_of, dtype_of
from understudy_client.wire import RUNNING


def packed(
    spec: GameSpec, legal: npt.ArrayLike, status: int, expert: Sequence[Part] | None = None
) -> bytes:
    """The mask of a frame, bool [choices], as bits, the lowest first. In a frame that goes on each
    head has a legal choice, and what the expert recommends is legal."""
    mask = _mask(spec, legal, None)
    if status == RUNNING:
        _check_heads(spec, mask[None])
    if expert is not None:
        _check_expert(spec, mask, expert)
    return np.packbits(mask, bitorder="little").tobytes()


def packed_all(spec: GameSpec, legal: npt.ArrayLike, slots: int) -> bytes:
    """The masks of so many slots, bool [slots, choices], one behind the other."""
    return np.packbits(_mask(spec, legal, slots), axis=1, bitorder="little").tobytes()


def _mask(spec: GameSpec, legal: npt.ArrayLike, slots: int | None) -> npt.NDArray[np.bool_]:
    if not spec.masks:
        raise ValueError(
            "legal: expected None in a game without masks, got a mask; connect with masks=True"
        )
    choices = sum(head.n for head in spec.actions if isinstance(head, Discrete))
    shape = (choices,) if slots is None else (slots, choices)
    mask = array_of(legal, "legal", shape)
    if mask.dtype.kind in "iu" and ((mask == 0) | (mask == 1)).all():
        mask = mask.astype(np.bool_)
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise ValueError(
            f"legal: expected a bool for each choice of each discrete head, {list(shape)}, got "
            f"{dtype_of(mask)} {list(mask.shape)}"
        )
    return mask


def _check_heads(spec: GameSpec, masks: npt.NDArray[np.bool_]) -> None:
    start = 0
    for head in spec.actions:
        if isinstance(head, Discrete):
            if not masks[:, start : start + head.n].any():
                raise ValueError(
                    f"legal, head {head.name}: expected at least one legal choice while the "
                    "episode goes on, got none; end the episode where nothing can be done"
                )
            start += head.n


def _check_expert(spec: GameSpec, mask: npt.NDArray[np.bool_], expert: Sequence[Part]) -> None:
    start = 0
    for head, part in zip(spec.actions, expert, strict=True):
        if isinstance(head, Discrete):
            choices = mask[start : start + head.n]
            if not choices[part]:  # type: ignore[index]
                raise ValueError(
                    f"expert, head {head.name}: expected a legal choice "
                    f"{np.flatnonzero(choices)[:20].tolist()}, got {part}"
                )
            start += head.n
