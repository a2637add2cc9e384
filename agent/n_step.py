"""n-step windows: how far a sampled step is followed, and what it earned on the way.

A *window* starts at a step and adds up rewards, discounted by gamma, until

- a step that terminated the episode: nothing is bootstrapped;
- `n_step` rewards, or a truncation: bootstraps from the observation behind the last reward, which
  at a truncation, a disconnect among them, is that of the stream's FINAL row;
- a step without a successor, the newest of its stream: bootstraps from that step's own
  observation, and its reward is left out;
- by default, a step of another actor: bootstraps from that step's observation, so that nobody is
  credited with another's play.

The window belongs to the actor of its first step. Only *complete* steps start one: those that have
a successor or terminated the episode.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agent.storage import gather
from protocol.actor import NOBODY
from protocol.messages import TERMINATED

_FIELDS = {"next": ("<i8", 0), "reward": ("<f4", 8), "actor": ("u1", 12)}
_FIELDS |= {"status": ("u1", 13), "kind": ("u1", 14)}

META = np.dtype(
    {
        "names": list(_FIELDS),
        "formats": [form for form, _ in _FIELDS.values()],
        "offsets": [offset for _, offset in _FIELDS.values()],
        "itemsize": 16,
    }
)
"""What following a link needs to know of a row, in 16 bytes: one gather for each row and hop.
`next` is the serial number of the row's successor, or agent.links.NONE. As tensors, META rows are
int64 [rows, 2]."""


@dataclass(frozen=True, slots=True)
class Windows:
    """What became of `B` windows."""

    last: Tensor
    """Places of the rows to bootstrap from, int64 [B]; the terminal step where it ended so."""
    returns: Tensor
    """Sum over the window of gamma**k times the reward k steps on, float32 [B]."""
    horizons: Tensor
    """Number of rewards in the sum, int64 [B]."""
    discounts: Tensor
    """gamma**horizon, and 0 where the window ended in a terminal step, float32 [B]."""
    path: Tensor
    """Places of the windows' rows, int64 [n_step, B]; what is behind a horizon means nothing."""


def follow(
    store: Tensor,
    first: Tensor,
    meta: Tensor,
    *,
    n_step: int,
    gamma: float,
    oldest: Tensor,
    stop_at_actor_change: bool,
) -> Windows:
    """The windows that start at the places `first`, int64 [B], all of complete steps.

    `store` is META of all places, int64 [capacity, 2], `meta` that of `first`, int64 [B, 2],
    `oldest`, int64 without sides, the smallest serial number that is not overwritten.
    """
    places, rows = [first], [meta]
    for _ in range(n_step):
        # Of a row that no other follows: some place, at which nothing counts.
        places.append(rows[-1][:, 0] % len(store))
        if len(rows) < n_step:
            rows.append(gather(store, places[-1]))
    # From here on all steps of all windows at once, [n_step, B].
    meta = torch.stack(rows)
    actor, terminal = actors_of(meta), is_terminal(meta)
    counts = (meta[..., 0] >= oldest) | terminal
    # FINAL rows are nobody's: a window never goes through one.
    counts &= actor == actor[0] if stop_at_actor_change else actor != NOBODY
    counts[1:] &= ~terminal[:-1]
    counted = counts.float().cumprod(0)
    powers = torch.pow(gamma, torch.arange(n_step + 1, device=first.device)).float()
    returns = (rewards_of(meta) * counted * powers[:-1, None]).sum(0)
    horizons = counted.sum(0).long()
    terminated = (counted * terminal).sum(0)
    discounts = powers.index_select(0, horizons) * (1 - terminated)
    path = torch.stack(places)
    last = path.gather(0, (horizons - terminated.long())[None])[0]
    return Windows(last, returns, horizons, discounts, path[:-1])


def stacks(previous: Tensor, places: Tensor, size: int, oldest: Tensor) -> Tensor:
    """The places of each row and of the `size - 1` rows before it in its episode, the oldest first,
    int64 [B, size]. Where there is no row before, at the start of an episode or because it was
    overwritten, the oldest one is repeated.

    `previous` holds for each place the serial of the row before, or agent.links.NONE, int64
    [capacity]; `oldest`, int64 without sides, is the smallest serial that is not overwritten.
    """
    stack = [places]
    for _ in range(size - 1):
        at = stack[-1]
        before = previous.index_select(0, at)
        stack.append(torch.where(before >= oldest, before % len(previous), at))
    return torch.stack(stack[::-1], dim=1)


def incomplete(meta: Tensor, oldest: int | Tensor) -> Tensor:
    """Which META rows [B, 2] may not start a window, FINAL ones among them: bool [B]."""
    return (meta[:, 0] < oldest) & ~is_terminal(meta)


def rewards_of(meta: Tensor) -> Tensor:
    """The rewards of META rows [..., 2], float32 [...], a view."""
    return meta.view(torch.float32)[..., _FIELDS["reward"][1] // 4]


def actors_of(meta: Tensor) -> Tensor:
    """The actors of META rows [..., 2], uint8 [...], a view."""
    return meta.view(torch.uint8)[..., _FIELDS["actor"][1]]


def is_terminal(meta: Tensor) -> Tensor:
    """Which META rows [..., 2] terminated their episode, bool [...]."""
    return meta.view(torch.uint8)[..., _FIELDS["status"][1]] == TERMINATED
