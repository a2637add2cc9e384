"""The sampler: how many rows of each actor a batch has, and uniform draws of complete steps.

Draws by priority are agent.priority's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from agent.actor_index import ActorIndex
from agent.n_step import incomplete
from agent.storage import gather
from protocol.actor import ACTORS, Actor

MISS = 1e-9
"""On a device that must not be waited for, draws are repeated as often as makes it this unlikely
that a batch is left with a step that is not complete (a window without a reward)."""

Quota = tuple[Sequence[Actor], int]
"""Some actors, in the order of ACTORS, and how many rows are drawn of theirs."""


def check_shares(shares: Mapping[Actor, float]) -> None:
    """ValueError unless these shares of a batch make sense together."""
    unknown = [who for who in shares if who not in ACTORS]
    if unknown or not all(0 <= share <= 1 for share in shares.values()):
        raise ValueError(f"actor_share: expected a share of 0 to 1 for actors, got {shares}")
    if sum(shares.values()) > 1 + 1e-9:
        raise ValueError(f"actor_share: expected shares of at most 1 together, got {shares}")


class Counts(Protocol):
    """How many steps can be drawn."""

    def complete(self, actors: Iterable[Actor] = ..., /) -> int:
        """Of these actors."""


def groups_of(index: Counts, shares: Mapping[Actor, float], batch_size: int) -> list[Quota]:
    """The groups of actors that a batch is drawn from, each of which has a complete step: an actor
    with a share is one by itself, and what is left comes from the actors without one."""
    groups: list[Quota] = []
    left = batch_size
    for who, share in shares.items():
        size = min(round(share * batch_size), left) if index.complete((who,)) else 0
        if size:
            groups.append(((who,), size))
            left -= size
    if left:
        others = [who for who in ACTORS if who not in shares]
        groups.append((others if index.complete(others) else ACTORS, left))
    return groups


def draw_uniformly(
    index: ActorIndex,
    store: Tensor,
    group: Quota,
    rng: torch.Generator,
    *,
    oldest: int,
    may_wait: bool,
) -> tuple[Tensor, Tensor]:
    """Places of complete steps of a group, uniform over them, int64 [n], and their META, [n, 2].

    `store` is META of all places, int64 [capacity, 2], `oldest` the smallest serial number that is
    not overwritten. `may_wait`: whether to look how many draws were in vain.
    """
    actors, size = [who for who in group[0] if index.complete((who,))], group[1]
    # Of all actors: any row will do, and none has to be looked up.
    of_all = index.complete(actors) == index.complete()
    unfit = 1 - index.complete(actors) / (index.rows if of_all else index.stored(actors))

    def draw(n: int) -> Tensor:
        if of_all:
            return torch.randint(index.rows, (n,), generator=rng, device=rng.device)
        return index.draw(actors, n, rng)

    if unfit > 0.5:  # the first moments of a run, or broken streams: drawing gets slow
        places = index.draw_complete(actors, size, rng)
        return places, gather(store, places)
    if may_wait:
        places = draw(size)
        meta = gather(store, places)
        bad = incomplete(meta, oldest).nonzero().view(-1)
        while len(bad):
            places[bad] = draw(len(bad))
            meta[bad] = gather(store, places[bad])
            bad = bad[incomplete(meta[bad], oldest)]
        return places, meta
    rounds = 1 if not unfit else math.ceil(math.log(MISS / size) / math.log(unfit))
    drawn = draw(rounds * size)
    meta = gather(store, drawn)
    good = ~incomplete(meta, oldest).view(rounds, size)
    chosen = good.byte().argmax(0) * size + torch.arange(size, device=store.device)
    return drawn.index_select(0, chosen), gather(meta, chosen)
