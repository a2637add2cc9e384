"""What the frames of a client under test say is legal, held against what it recommends and did."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from protocol.masks import (
    ALL_LEGAL,
    are_legal,
    has_choice,
    illegal,
    mask_bytes,
    no_choice,
    unpacked,
)
from protocol.messages import RUNNING, Frame, Frames
from protocol.spaces import GameSpec

Rows = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]


class LegalChoices:
    """The masks of a connection's frames, of all its slots."""

    def __init__(self, spec: GameSpec, slots: int) -> None:
        self._spec = spec
        self._before = np.ones((slots, spec.choices), np.bool_)
        """Of the newest frame of each slot."""

    def judge(self, frame: Frame | Frames) -> Masks:
        """What is legal in this frame, [slots in it, choices]. Errors: RemoteError, as a server
        sends it."""
        spec = self._spec
        slots = [frame.slot] if isinstance(frame, Frame) else list(range(len(self._before)))
        legal = self._masks(frame, len(slots))
        took = _took(frame, spec)
        self._check("what was done (took)", took, self._before[slots])
        running = (
            np.frombuffer(bytes([frame.status]), np.uint8) == RUNNING
            if isinstance(frame, Frame)
            else np.frombuffer(frame.statuses, np.uint8) == RUNNING
        )
        possible = has_choice(legal, spec) | ~running[:, None]
        if not possible.all():
            slot, head = np.argwhere(~possible)[0].tolist()
            raise no_choice(head, spec).in_slot(slots[slot], len(self._before))
        self._check("what the expert recommends", _experts(frame, spec), legal)
        self._before[slots] = legal
        return legal

    def _masks(self, frame: Frame | Frames, slots: int) -> Masks:
        spec = self._spec
        given = mask_bytes(frame.legal, slots, spec) if spec.masks else None
        packed = np.full((slots, -(-spec.choices // 8)), ALL_LEGAL, np.uint8)
        if given is not None:
            packed[:] = np.frombuffer(given, np.uint8).reshape(slots, -1)
        return unpacked(packed, spec)

    def _check(self, what: str, rows: Rows, legal: Masks) -> None:
        """Errors: RemoteError for a row, NaN first for none, with a choice that is not legal."""
        given = np.flatnonzero(~np.isnan(rows[:, 0]))
        if not len(given) or not self._spec.masks:
            return
        allowed = are_legal(rows[given], legal[given], self._spec)
        if not allowed.all():
            at, head = np.argwhere(~allowed)[0].tolist()
            row = int(given[at])
            error = illegal(what, rows[row], legal[row], head, self._spec)
            raise error.in_slot(row, len(rows))


def _experts(frame: Frame | Frames, spec: GameSpec) -> Rows:
    if isinstance(frame, Frame):
        return _row(None if frame.expert is None else spec.action_row(frame.expert), spec)
    if frame.experts is None:
        return _row(None, spec)
    return np.frombuffer(frame.experts, "<f4").reshape(-1, spec.action_width)


def _took(frame: Frame | Frames, spec: GameSpec) -> Rows:
    if isinstance(frame, Frame):
        return _row(None if frame.took is None else spec.action_row(frame.took[0]), spec)
    if frame.took is None:
        return _row(None, spec)
    rows = np.frombuffer(frame.took[0], "<f4").reshape(-1, spec.action_width).copy()
    rows[np.frombuffer(frame.took[1], np.uint8) == 0] = np.nan
    return rows


def _row(row: list[float] | None, spec: GameSpec) -> Rows:
    return np.array([[np.nan] * spec.action_width if row is None else row], np.float32)
