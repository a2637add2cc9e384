"""The sampler: how many rows of each actor a batch has, and uniform draws of complete steps.

Draws by priority are agent.priority's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from agent.actor_index import ActorIndex
from agent.n_step import incomplete
from agent.storage import gather
from protocol.actor import ACTORS, Actor

MISS = 1e-9
"""On a device that must not be waited for, draws are repeated as often as makes it this unlikely
that a batch is left with a step that is not complete (a window without a reward)."""

FEWEST_ROUNDS, MOST_ROUNDS = 4, 64
"""Where 99.94 % of the steps are complete four are enough for batches of 8,192 rows; where half of
them are, 64 for 16 million."""

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


ALL, UNTIL_GOOD = 0, -1


class UniformPlan(NamedTuple):
    """How the rows of a group are drawn: what is asked of the device follows from it."""

    actors: tuple[Actor, ...]
    """Those that have complete steps."""
    size: int
    of_all: bool
    """Of all actors: any row will do, and none has to be looked up."""
    rounds: int
    """How often each row is drawn, so that one of the draws is good; ALL: from a list of all good
    ones; UNTIL_GOOD: as often as is seen to be needed."""


def plan_uniform(index: ActorIndex, group: Quota, *, may_wait: bool) -> UniformPlan:
    """`may_wait`: whether to look how many draws were in vain."""
    actors, size = tuple(who for who in group[0] if index.complete((who,))), group[1]
    of_all = index.complete(actors) == index.complete()
    unfit = 1 - index.complete(actors) / (index.rows if of_all else index.stored(actors))
    if unfit > 0.5:  # the first moments of a run, or broken streams: drawing gets slow
        rounds = ALL
    elif may_wait:
        rounds = UNTIL_GOOD
    else:
        # Powers of two, and not the smallest, so that it seldom becomes another one.
        rounds = FEWEST_ROUNDS
        while unfit**rounds * size > MISS and rounds < MOST_ROUNDS:
            rounds *= 2
    return UniformPlan(actors, size, of_all, rounds)


def draw_uniformly(
    index: ActorIndex,
    store: Tensor,
    plan: UniformPlan,
    rng: torch.Generator,
    oldest: Tensor,
) -> tuple[Tensor, Tensor]:
    """Places of complete steps of a group, uniform over them, int64 [n], and their META, [n, 2].

    `store` is META of all places, int64 [capacity, 2], `oldest`, int64 [], the smallest serial
    number that is not overwritten.
    """
    actors, size, rounds = plan.actors, plan.size, plan.rounds
    if rounds == ALL:
        places = index.draw_complete(actors, size, rng)
        return places, gather(store, places)
    if rounds == UNTIL_GOOD:
        places = _draw_here(index, plan, size, rng)
        meta = gather(store, places)
        bad = incomplete(meta, oldest).nonzero().view(-1)
        while len(bad):
            places[bad] = _draw_here(index, plan, len(bad), rng)
            meta[bad] = gather(store, places[bad])
            bad = bad[incomplete(meta[bad], oldest)]
        return places, meta
    drawn = index.draw_there(None if plan.of_all else actors, rounds * size, rng)
    meta = gather(store, drawn)
    good = ~incomplete(meta, oldest).view(rounds, size)
    chosen = good.byte().argmax(0) * size + torch.arange(size, device=store.device)
    return drawn.index_select(0, chosen), gather(meta, chosen)


def _draw_here(index: ActorIndex, plan: UniformPlan, n: int, rng: torch.Generator) -> Tensor:
    if plan.of_all:
        return torch.randint(index.rows, (n,), generator=rng, device=rng.device)
    return index.draw(plan.actors, n, rng)
