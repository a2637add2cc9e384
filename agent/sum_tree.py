"""Sum trees: drawing rows with probabilities that keep changing, whole batches at a time.

A tree's leaves hold a *mass* for each row; every node above is the sum of its FAN_OUT children. To
draw a leaf is to throw a number below the sum of all of them and to go down to where it lands
(Schaul et al. 2016, arXiv:1511.05952, appendix B.2.1). Here all draws of a batch go down together,
a level at a time, so a draw costs a few operations on arrays, whatever the size of the batch.

The levels end at a top of up to TOP nodes, which is searched as a whole. Sums are float64 and are
always added up anew from the children, never corrected by a difference: nothing drifts.

Nothing here waits for the device or depends on a value in it, and shapes depend on arguments alone.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from agent.storage import zeros

FAN_OUT = 16
"""Children of a node. 8 need more levels, 32 more additions; 16 was the quickest on a cpu, drawing
and changing 128 to 8,192 of a million rows and of ten million."""

SHIFT = FAN_OUT.bit_length() - 1
"""A shift takes a fifth of the time of a division."""

TOP = 65536
"""Nodes of the top of a tree, at most. A million leaves are one level above which there are 62,500
nodes, ten million are two. As throws come in rising order, looking through so many costs large
batches less than another level would, and small ones no more."""


class SumTree:
    """`trees` trees of at least `size` leaves each, side by side, all masses 0 at first.

    A leaf is known by its *number*: the tree's number times `stride`, and its place in the tree.
    """

    def __init__(self, trees: int, size: int, device: torch.device) -> None:
        depth = 0
        while -(-size // FAN_OUT**depth) > TOP:
            depth += 1
        self._top = -(-size // FAN_OUT**depth)
        self.stride = self._top * FAN_OUT**depth
        """How far the trees stand apart: their leaves, rounded up to whole nodes."""
        leaves = zeros((trees * self.stride,), "float32", device)
        self._levels = [leaves]
        for level in range(1, depth + 1):
            self._levels.append(zeros((len(leaves) // FAN_OUT**level,), "float64", device))

    @property
    def leaves(self) -> Tensor:
        """All masses, float32 [trees * stride]; to be changed with `set` and `fill` alone."""
        return self._levels[0]

    @property
    def nbytes(self) -> int:
        return sum(level.nbytes for level in self._levels)

    def totals(self) -> Tensor:
        """The sum of the masses of each tree, float64 [trees]."""
        return self._levels[-1].view(-1, self._top).sum(1, dtype=torch.float64)

    def draw(self, trees: range, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """`n` leaves of some neighboring trees, drawn with replacement, each with a probability of
        its mass over the sum of all of theirs: their numbers, int64 [n], which rise, and masses,
        float32 [n]. A part of them is no draw: it would be the leaves of a part of the trees.

        One of the masses must be above 0; leaves without a mass are never drawn.
        """
        start = trees.start * self._top
        top = self._levels[-1][start : trees.stop * self._top]
        sums = top.cumsum(0, dtype=torch.float64)
        left = _throws(n, rng) * sums[-1]
        at = _first_above(sums, left)
        left -= sums.index_select(0, at) - top.index_select(0, at)
        at += start
        for level in reversed(self._levels[:-1]):
            children = level.view(-1, FAN_OUT).index_select(0, at)
            sums = children.cumsum(1, dtype=torch.float64)
            child = _first_above(sums, left[:, None])
            left -= (sums.gather(1, child) - children.gather(1, child)).view(-1)
            at = at * FAN_OUT + child.view(-1)
        masses = self.leaves.index_select(0, at)
        # Where a throw lands within a rounding error of a border (a relative 1e-16), it may come
        # down in a leaf without a mass. Another draw of this batch then counts twice.
        good = masses > 0
        stand_in = good.byte().argmax(0, keepdim=True)
        at = torch.where(good, at, at.gather(0, stand_in))
        return at, torch.where(good, masses, masses.gather(0, stand_in))

    def set(self, leaves: Tensor, masses: Tensor) -> None:
        """Give leaves, numbers int64 [n], new masses, float32 [n]. Where a leaf is named twice, any
        of its masses counts."""
        self.leaves.scatter_(0, leaves, masses)
        node = leaves
        for level, above in pairwise(self._levels):
            node = node >> SHIFT
            children = level.view(-1, FAN_OUT).index_select(0, node)
            above.scatter_(0, node, children.sum(1, dtype=torch.float64))

    def fill(self, first: int, masses: Tensor) -> None:
        """Give the leaves from the number `first` on new masses, float32 [n]: `set` for neighbors,
        which is cheaper."""
        start, stop = first, first + len(masses)
        self.leaves[start:stop] = masses
        for level, above in pairwise(self._levels):
            start, stop = start // FAN_OUT, -(-stop // FAN_OUT)
            children = level[start * FAN_OUT : stop * FAN_OUT].view(-1, FAN_OUT)
            above[start:stop] = children.sum(1, dtype=torch.float64)

    def check_valid(self) -> None:
        """AssertionError unless all masses are at least 0 and each node is the sum of its children
        up to rounding. Slow."""
        assert bool((self.leaves >= 0).all()), "a mass below 0, or NaN"
        for level, above in pairwise(self._levels):
            sums = level.view(-1, FAN_OUT).sum(1, dtype=torch.float64)
            assert torch.allclose(above, sums, rtol=1e-14, atol=0), "a node is not its children's"


def _throws(n: int, rng: torch.Generator) -> Tensor:
    """`n` numbers from 0 to 1, each uniform and drawn by itself, float64 [n], sorted. Without
    sorting: sums of exponential spacings over the sum of one more are what sorting would give
    (Devroye 1986, Non-Uniform Random Variate Generation, chapter V, theorem 2.2). The last may
    round to 1."""
    spacings = torch.empty(n + 1, dtype=torch.float64, device=rng.device)
    sums = spacings.exponential_(generator=rng).cumsum(0)
    return sums[:-1].div_(sums[-1])


def _first_above(sums: Tensor, left: Tensor) -> Tensor:
    """Where the running sums, [n] or of each row [rows, n], first exceed a number, [..] or
    [rows, 1]; the last place where rounding has them all below it."""
    if sums.dim() == 1:
        found = torch.searchsorted(sums, left, right=True)
    else:
        found = (sums <= left).sum(1, keepdim=True)  # of a few, counting is quicker
    return found.clamp_(max=sums.shape[-1] - 1)
