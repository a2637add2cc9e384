"""A batch of n-step windows, as the learner gets it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from agent.past import Past


@dataclass(frozen=True, slots=True)
class Batch:
    """`B` windows, on the replay's device. With shares, rows of one actor stand together."""

    states: tuple[Tensor, ...]
    """What the game showed in the first steps: for each of its observations a tensor in its dtype,
    [B, *shape]; where frames are stacked (agent.looks) the last k, the oldest first,
    [B, k, *shape]."""
    discrete: Tensor
    """Choices, one column for each discrete head, int64 [B, D]."""
    continuous: Tensor
    """Continuous actions, the columns of all continuous heads, float32 [B, C]."""
    recommended: Tensor
    """What the expert recommended in the first steps, whoever acted: action rows (protocol.spaces),
    NaN where it recommended nothing, float32 [B, action width]."""
    rewards: Tensor
    """One-step rewards of the first steps, float32 [B]."""
    returns: Tensor
    """Sum over the window of gamma**k times the reward k steps on, float32 [B]."""
    next_states: tuple[Tensor, ...]
    """What to bootstrap from, like `states`; any stored ones where `discounts` is 0."""
    discounts: Tensor
    """gamma**horizon, and 0 where the window ends in a terminal step, float32 [B]."""
    actors: Tensor
    """protocol.actor.Actor of the first steps, int64 [B]."""
    horizons: Tensor
    """Number of rewards in `returns`, at least 1, int64 [B]."""
    importance: Tensor
    """What each row's loss is multiplied by, to make up for rows that are drawn more often than
    others (agent.priority), float32 [B] above 0 up to 1; 1 where nothing is drawn by priority."""
    indices: Tensor
    """Places of the first steps in the replay, valid until the next append, int64 [B]."""
    legal: Tensor | None = None
    """Which choices are legal in `states`, bool [B, choices of all discrete heads]; None for a game
    without masks."""
    next_legal: Tensor | None = None
    """The same in `next_states`."""
    past: Past | None = None
    """What led to `states` and to `next_states`, for a network with a memory."""

    def __len__(self) -> int:
        return self.rewards.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        """This batch on another device; copies to a cuda device may still be under way."""
        # Never so towards the host: it would read what has not arrived yet.
        non_blocking = torch.device(device).type != "cpu"

        def moved(column: Any) -> Any:
            if isinstance(column, tuple):
                return tuple(map(moved, column))
            return None if column is None else column.to(device, non_blocking=non_blocking)

        return Batch(*(moved(getattr(self, f.name)) for f in fields(self)))

    def split(self, size: int) -> list[Batch]:
        """Batches of `size` rows each (the last has what is left), as views: one after the other
        they are this one."""
        if len(self) <= size:
            return [self]

        def parts(column: Any) -> Any:
            if isinstance(column, tuple):
                return zip(*map(parts, column), strict=True)
            if isinstance(column, Past):
                return column.split(size)
            return repeat(None) if column is None else split_rows(column, size)

        columns = [parts(getattr(self, f.name)) for f in fields(self)]
        return [Batch(*of_one) for of_one in zip(*columns)]  # noqa: B905  # repeat has no end

    def legal_in(self, rows: slice) -> Tensor | None:
        """`legal` of some rows."""
        return None if self.legal is None else self.legal[rows]


def split_rows(column: Tensor, size: int) -> Sequence[Tensor]:
    """So many rows each, the last has what is left, as views. As `Tensor.split`, which is written
    in Python, and slow."""
    whole, rest = divmod(column.shape[0], size)
    return column.split_with_sizes([size] * whole + [rest] * bool(rest))


def joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors one after the other; one alone as it is."""
    return torch.cat(list(parts), dim) if len(parts) > 1 else parts[0]


def rows_of(states: tuple[Tensor, ...], rows: slice) -> tuple[Tensor, ...]:
    """Some rows of `Batch.states`, as views."""
    return tuple(part[rows] for part in states)
