"""Cloning: the actions that an expert shows the network in a batch, and which rows show one."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from agent.batch import Batch
from protocol.actor import Actor
from protocol.spaces import GameSpec

Rows = Literal["expert", "recommended"]
"""The rows that show an action: those that the expert played show the action taken; `recommended`:
the others, too, where they have a recommendation: that, as in DAgger (Ross et al. 2011,
arXiv:1011.0686). What a person did instead of a script's recommendation counts before that."""


class ClonedActions(NamedTuple):
    """What a batch of B rows shows."""

    discrete: Tensor
    """Choices, int64 [B, D]."""
    continuous: Tensor
    """The columns of all continuous heads, float32 [B, C]."""
    weight: Tensor
    """Of each row's loss, float32 [B]; 0 where it shows no action, and as found 1 where it does."""


class Cloning:
    """Finds the actions to clone, for one game."""

    def __init__(self, spec: GameSpec, rows: Rows, device: torch.device) -> None:
        self._recommended = rows == "recommended"
        self._discrete = torch.tensor(spec.discrete_columns, dtype=torch.int64, device=device)
        self._continuous = torch.tensor(spec.continuous_columns, dtype=torch.int64, device=device)

    def actions(self, batch: Batch) -> ClonedActions:
        """Those of the rows that show one. Waits for no device."""
        shown = batch.actors == Actor.EXPERT
        if not self._recommended:
            return ClonedActions(batch.discrete, batch.continuous, shown.float())
        known = batch.recommended[:, :1].isnan().logical_or(shown[:, None]).logical_not()
        # Before it becomes a whole number: what NaN becomes is not defined.
        action = batch.recommended.nan_to_num()
        discrete = action.index_select(1, self._discrete).long()
        return ClonedActions(
            torch.where(known, discrete, batch.discrete),
            torch.where(known, action.index_select(1, self._continuous), batch.continuous),
            (shown | known[:, 0]).float(),
        )
