"""Validation of what is stored: blocks of the game's shapes, each step with its actor.

Attribution is what the replay is for, so a step without a known actor is refused here, once for
all, and nothing is ever given a default one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.step import FINAL, STEP, StepBlock, columns_of
from protocol.actor import ACTORS, NOBODY
from protocol.masks import are_legal, illegal, unpacked
from protocol.messages import RUNNING, TERMINATED, TRUNCATED
from protocol.spaces import GameSpec

STATUSES = (RUNNING, TERMINATED, TRUNCATED)

# Looked up for each row: `np.isin` takes ten times as long for the few rows of a block.
_NUMBERS = np.arange(256)
_KNOWN_ACTOR, _KNOWN_STATUS = np.isin(_NUMBERS, ACTORS), np.isin(_NUMBERS, STATUSES)


def check_block(block: StepBlock, spec: GameSpec, memory: int = 0) -> None:
    """Refuse a block that is not one of this spec, or of which any row breaks a rule.

    ValueError says which column, or which row: an unknown kind or status, a step without a known
    actor, a final row with one. NaN and ranges are the gateway's to check. Of a network with a
    memory, blocks have states of `memory` numbers, or none.
    """
    columns = {name: getattr(block, name) for name in StepBlock.__slots__}
    if not block.state.shape[-1]:
        memory = 0
    check_columns({name: (each.dtype, each.shape) for name, each in columns.items()}, spec, memory)
    _check_rows(block)


def check_columns(
    columns: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], spec: GameSpec, memory: int = 0
) -> None:
    """Refuse columns of other dtypes and shapes than those of this spec's blocks, by their names;
    those that are missing are not looked at. ValueError says which."""
    rows = columns["reward"][1][:1]
    for name, (like, row) in zip(StepBlock.__slots__, columns_of(spec, 1, memory), strict=True):
        if name not in columns:
            continue
        dtype, shape = columns[name]
        expected = (*rows, *row[1:])
        if dtype != like or shape != expected:
            raise ValueError(
                f"column {name!r}: expected {like} {list(expected)}, "
                f"got {dtype} {list(shape)}; make blocks with the run's own spec"
            )


def check_legal(rows: StepBlock, spec: GameSpec) -> None:
    """Refuse a block, of a game with masks, in which a choice, taken or recommended, is one that
    its frame's mask forbids. ValueError says which."""
    legal = unpacked(rows.legal, spec)
    for what, actions, given in (
        ("the action taken", rows.action, rows.kind == STEP),
        ("the recommendation", rows.recommended, ~np.isnan(rows.recommended[:, 0])),
    ):
        allowed = are_legal(actions[given], legal[given], spec)
        if not allowed.all():
            row, head = np.argwhere(~allowed)[0].tolist()
            error = illegal(what, actions[given][row], legal[given][row], head, spec)
            raise ValueError(error.message)


def _check_rows(block: StepBlock) -> None:
    step, final = block.kind == STEP, block.kind == FINAL
    known_actor = _KNOWN_ACTOR[block.actor]
    good = (step & known_actor) | (final & (block.actor == NOBODY))
    good &= _KNOWN_STATUS[block.status]
    if good.all():
        return
    row = int(np.argmin(good))
    kind, actor, status = int(block.kind[row]), int(block.actor[row]), int(block.status[row])
    where = f"row {row} (stream {int(block.stream[row])}, seq {int(block.seq[row])})"
    if kind not in (STEP, FINAL):
        raise ValueError(
            f"{where}: expected the kind 1 (step) or 2 (final), got {kind}; "
            "0 is a record that nobody wrote"
        )
    if status not in STATUSES:
        raise ValueError(
            f"{where}: expected the status 0 (running), 1 (terminated) or 2 (truncated), "
            f"got {status}"
        )
    if kind == STEP:
        raise ValueError(
            f"{where}: a step needs an actor, 1 (dqn) or 2 (expert), got {actor}; "
            "tag every action with who chose it"
        )
    raise ValueError(f"{where}: a final row has no action, expected the actor 0, got {actor}")
