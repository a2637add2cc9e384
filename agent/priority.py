"""Prioritized replay: rows that surprised are drawn more often (proportional variant of Schaul et
al. 2016, arXiv:1511.05952).

    p_i  = (|TD error of row i when it was last learnt from| + EPSILON)^alpha

A row enters with the largest p so far (at first 1), so that each is learnt from soon. There is a
tree of them for each actor: an actor with a share of the batch is drawn from its own tree.

    P(i) = sum over the groups g that row i's actor is in of   n_g / B * p_i / (sum of p over g)

is the expected share of row i in a batch of B rows, of which n_g are drawn from the actors of
group g: p_i / sum of p where no actor has a share. The weight that makes up for it is

    w_i  = (N P(i))^-beta / largest of the batch = (smallest P of the batch / P(i))^beta

N is the number of rows that can be drawn. It cancels, and so is never needed. With beta 1 the
weighted batch stands for all rows equally: that undoes what a share does to the mean loss too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agent.actor_index import Places
from agent.device import uploaded
from agent.sampler import Quota
from agent.sum_tree import SumTree
from protocol.actor import ACTORS, NAMES, Actor

EPSILON = 1e-6
"""Added to |TD error|: a row that was learnt perfectly is still drawn at times."""

LARGEST = 1e9
"""What |TD error| is cut to: next to it, float64 can still tell EPSILON from nothing."""

_FIRST = ACTORS[0]


class SavedPriorities(NamedTuple):
    """The priorities of a replay's rows as they once were, whatever places the rows had."""

    stream: npt.NDArray[np.int64]
    seq: npt.NDArray[np.uint32]
    """Which row it is, both [n]."""
    priority: npt.NDArray[np.float32]
    """[n], 0 for rows that might not be drawn."""
    largest: npt.NDArray[np.float32]
    """The largest so far, []."""

    def of(
        self, stream: npt.NDArray[np.int64], seq: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.float32]:
        """The priorities of these rows, float32 [m], 0 for those that it does not know."""
        if not len(self.stream):
            return np.zeros(len(stream), np.float32)
        known, wanted = _keys(self.stream, self.seq), _keys(stream, seq)
        order = np.argsort(known)
        at = order[np.searchsorted(known, wanted, sorter=order).clip(max=len(order) - 1)]
        same = (self.stream[at] == stream) & (self.seq[at] == seq)
        return np.where(same, self.priority[at], np.float32(0))


class Priorities:
    """The priorities of `capacity` places, each of which belongs to the actor who played the row.

    Nothing here waits for the device.
    """

    def __init__(self, capacity: int, alpha: float, device: torch.device) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"priority_alpha: expected 0 to 1, got {alpha}")
        self.alpha = alpha
        self._capacity = capacity
        self._tree = SumTree(len(ACTORS), capacity, device)
        self.largest = torch.ones((), dtype=torch.float32, device=device)
        """The largest priority so far, which new rows get."""

    @property
    def nbytes(self) -> int:
        return self._tree.nbytes

    def replace(self, at: int, actor: npt.NDArray[np.uint8]) -> None:
        """At the places from `at` on, going round at the end, there are other rows now: of these
        actors [n], and NOBODY's where a row may not be drawn."""
        actors = uploaded(actor, self.largest.device)
        fits = self._capacity - at
        for place, part in ((at, actors[:fits]), (0, actors[fits:])):
            if not len(part):
                continue
            for number, who in enumerate(ACTORS):
                first = number * self._tree.stride + place
                self._tree.fill(first, (part == who) * self.largest)

    def enter(self, places: Places, actor: npt.NDArray[np.uint8]) -> None:
        """The rows at these places [n], by these actors [n], may be drawn from now on."""
        device = self.largest.device
        where, who = uploaded(places, device), uploaded(actor, device)
        self._tree.set(self._leaves(where, who), self.largest.expand(len(places)))

    def update(self, places: Tensor, actors: Tensor, td_errors: Tensor) -> None:
        """Rows have been learnt from: places int64 [n], who played them uint8 [n], and their TD
        errors, float [n]. An error that is not finite changes nothing, and neither does one for a
        row that may not be drawn."""
        leaves = self._leaves(places, actors)
        old = self._tree.leaves.index_select(0, leaves)
        new = td_errors.float().abs().add_(EPSILON).clamp_(max=LARGEST).pow_(self.alpha)
        new = torch.where(td_errors.isfinite() & (old > 0), new, old)
        self._tree.set(leaves, new)
        if len(new):
            torch.maximum(self.largest, new.amax(), out=self.largest)

    def draw(
        self, groups: Sequence[Quota], rng: torch.Generator, rates: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rows by priority, from each group as many as it says: their places, int64 [B], and P of
        the module's text up to a factor that is the same for all of them, float [B].

        Each group must have a row that may be drawn. `rates`: P over the priority by actor, float64
        [actors]; None: by these groups.
        """
        if not groups:
            return torch.empty(0, dtype=torch.int64, device=rng.device), self.largest.new_empty(0)
        drawn = [self._tree.draw(_trees(actors), n, rng) for actors, n in groups]
        stride = self._tree.stride
        if len(drawn) == 1 and rates is None:
            leaves, priorities = drawn[0]
            return leaves % stride, priorities
        leaves = torch.cat([leaves for leaves, _ in drawn])
        priorities = torch.cat([priorities for _, priorities in drawn])
        if rates is None:
            totals = self._tree.totals()
            rates = torch.zeros_like(totals)
            for actors, n in groups:
                trees = slice(_trees(actors).start, _trees(actors).stop)
                rates[trees] += n / totals[trees].sum()
        return leaves % stride, priorities * rates.index_select(0, leaves // stride)

    def of(self, places: Places) -> npt.NDArray[np.float32]:
        """The priorities of the rows at these places [n], float32 [n]: 0 where there is none."""
        trees = self._tree.leaves.view(len(ACTORS), -1)
        found = trees.index_select(1, uploaded(places, trees.device)).amax(0)
        return found.cpu().numpy()

    def restore(
        self,
        places: Places,
        actor: npt.NDArray[np.uint8],
        masses: npt.NDArray[np.float32],
        largest: float,
    ) -> None:
        """The rows at these places [n], by these actors [n], have these priorities, float32 [n];
        `largest` is the largest of the run, and nothing may be above it."""
        device = self.largest.device
        largest = max(largest, float(self.largest))
        self.largest.fill_(largest)
        where, who = uploaded(places, device), uploaded(actor, device)
        values = uploaded(masses, device).clamp(max=largest)
        if len(where):
            self._tree.set(self._leaves(where, who), values)

    def totals(self) -> Tensor:
        """The sum of the priorities of each actor's rows, float64, in the order of ACTORS."""
        return self._tree.totals()

    def check_valid(self, actor: npt.NDArray[np.uint8]) -> None:
        """AssertionError unless the rows of these actors [capacity] have a priority, each in its
        actor's tree, and those of NOBODY have none. Slow."""
        self._tree.check_valid()
        expected, n = torch.from_numpy(actor), len(actor)
        for masses, who in zip(self._tree.leaves.view(len(ACTORS), -1), ACTORS, strict=True):
            has = (masses > 0).cpu()
            assert torch.equal(has[:n], expected == who), f"{NAMES[who]}: priorities of wrong rows"
            assert not has[n:].any(), f"{NAMES[who]}: priorities of no row"
            assert bool((masses <= self.largest).all()), "a priority above the largest"

    def _leaves(self, places: Tensor, actors: Tensor) -> Tensor:
        # The place of a FINAL row, which is nobody's, may be asked for late: there is no mass in
        # any tree then, so the first does.
        trees = (actors.long() - _FIRST).clamp_(min=0)
        return torch.add(places, trees, alpha=self._tree.stride)


def _keys(stream: npt.NDArray[np.int64], seq: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    """A number for each row; hardly ever the same one for two."""
    # Streams are far apart, so that their seqs do not meet.
    return stream.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + seq


def importance(
    probabilities: Tensor, beta: float | Tensor, smallest: Tensor | None = None
) -> Tensor:
    """The weights w of the module's text for a batch, float32 [B], the largest being 1, from P up
    to a common factor, [B] above 0. beta 0: all ones. `smallest` []: of the batch, where there is
    more to it than these rows."""
    if smallest is None:
        smallest = probabilities.amin()
    return torch.div(smallest, probabilities).pow(beta).float()


def _trees(actors: Sequence[Actor]) -> range:
    """The numbers of these actors' trees."""
    trees = range(ACTORS.index(actors[0]), ACTORS.index(actors[-1]) + 1)
    if [ACTORS[number] for number in trees] != list(actors):
        raise ValueError(f"expected neighboring actors in the order of {ACTORS}, got {actors}")
    return trees
