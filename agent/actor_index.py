"""Who played which of the stored rows: counts in O(1), and the k-th step of an actor in O(1).

Each actor has a ring with the places of its steps in order of age. Rows are overwritten in order
of age too, so counting the overwritten rows of each actor is enough to know the rings' new heads.
FINAL rows are in no ring.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agent.device import uploaded
from agent.storage import put, zeros
from protocol.actor import ACTORS, NAMES, NOBODY, Actor

Places = npt.NDArray[np.integer]

COMPLETE = 0x80
"""The bit of a tag that says that the step may be sampled: it has a successor or is terminal."""


@dataclass(frozen=True, slots=True)
class Composition:
    """How many of the stored steps each actor played. Fractions of no steps are 0."""

    total: int
    dqn: int
    expert: int
    frac_dqn: float
    frac_expert: float


class ActorIndex:
    """The tags of `capacity` places, on the host, and a ring for each actor, on the device."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._capacity = capacity
        self.tags: npt.NDArray[np.uint8] = np.zeros(capacity, np.uint8)
        """For each place the actor, NOBODY where there is no step, and COMPLETE."""
        self._rows = 0
        """Places that have been written."""
        self._rings = zeros((len(ACTORS) * capacity,), np.int32, device)  # one behind the other
        self._where: Tensor | None = None
        if device.type != "cpu":
            self.keep_counts_on(device)
        self._heads = dict.fromkeys(ACTORS, 0)
        self._tails = dict.fromkeys(ACTORS, 0)
        self._complete = dict.fromkeys(ACTORS, 0)

    def keep_counts_on(self, device: torch.device) -> None:
        """Let `draw_there` ask nothing of the host."""
        self._where = torch.zeros(1 + 4 * len(ACTORS), dtype=torch.int64, device=device)
        self._write_counts()

    @property
    def nbytes(self) -> int:
        """Bytes of tags and rings."""
        return self.tags.nbytes + self._rings.nbytes

    @property
    def rows(self) -> int:
        """Stored rows, FINAL ones among them."""
        return self._rows

    def stored(self, actors: Iterable[Actor] = ACTORS) -> int:
        """Stored steps of these actors."""
        return sum(self._tails[actor] - self._heads[actor] for actor in actors)

    def complete(self, actors: Iterable[Actor] = ACTORS) -> int:
        """Complete steps of these actors."""
        return sum(self._complete[actor] for actor in actors)

    def composition(self) -> Composition:
        """How many of the stored steps each actor played. O(1)."""
        dqn, expert = (self.stored((who,)) for who in (Actor.DQN, Actor.EXPERT))
        total = dqn + expert
        return Composition(total, dqn, expert, dqn / max(total, 1), expert / max(total, 1))

    def replace(
        self, at: int, actor: npt.NDArray[np.uint8], complete: npt.NDArray[np.bool_]
    ) -> None:
        """The oldest rows, from the place `at` on, make room for newer ones of these actors."""
        places = (at + np.arange(len(actor))) % self._capacity
        old = np.bincount(self.tags[places], minlength=256)
        new = actor | np.where(complete, COMPLETE, 0).astype(np.uint8)
        self.tags[places] = new
        added = np.bincount(new, minlength=256)
        self._rows = min(self._rows + len(actor), self._capacity)
        for who in ACTORS:
            self._heads[who] += int(old[who] + old[who | COMPLETE])
            self._complete[who] += int(added[who | COMPLETE] - old[who | COMPLETE])
            own = places[actor == who].astype(np.int32)
            put(self._ring(who), self._tails[who] % self._capacity, own)
            self._tails[who] += len(own)
        self._write_counts()

    def _write_counts(self) -> None:
        """Rows, then for each actor start and length of its two runs of ring positions."""
        if self._where is not None:
            runs = [number for who in ACTORS for run in self._runs(who) for number in run]
            self._where.copy_(uploaded(np.array([self._rows, *runs]), self._where.device))

    def mark_complete(self, places: Places) -> Places:
        """The steps at these places, all different, have got a successor; those of them that were
        not complete before."""
        places = places[self.tags[places] < COMPLETE]
        counts = np.bincount(self.tags[places], minlength=256)
        self.tags[places] |= COMPLETE
        for who in ACTORS:
            self._complete[who] += int(counts[who])
        return places

    def complete_actors(self, places: Places) -> npt.NDArray[np.uint8]:
        """The actors of the steps at these places, NOBODY where there is no complete step."""
        tags = self.tags[places]
        return np.where(tags > COMPLETE, tags & ~np.uint8(COMPLETE), NOBODY).astype(np.uint8)

    def draw(self, actors: Sequence[Actor], size: int, rng: torch.Generator) -> Tensor:
        """Places of steps of these actors, uniform over all of them, int64 [size]."""
        ranks = torch.randint(self.stored(actors), (size,), generator=rng, device=rng.device)
        # The steps of all the actors, one after the other, lie in a few runs of ring positions:
        # a rank is moved by how far its run stands from where the ranks before it end.
        runs = [run for who in actors for run in self._runs(who) if run[1]]
        (start, passed), *rest = runs
        positions, shift = ranks + start, start
        for start, length in rest:
            further = start - passed - shift
            positions.add_(ranks >= passed, alpha=further)
            shift += further
            passed += length
        return self._rings.index_select(0, positions).long()

    def draw_there(self, actors: Sequence[Actor] | None, size: int, rng: torch.Generator) -> Tensor:
        """Like `draw`, by counts that lie on the device: what is asked of it stays the same while
        rows come and go. None: places of any rows."""
        assert self._where is not None
        throws = torch.rand(size, dtype=torch.float64, generator=rng, device=rng.device)
        if actors is None:
            return _below(throws, self._where[0])
        of_actors = self._where[1:].view(len(ACTORS), 2, 2)
        runs = torch.cat([of_actors[ACTORS.index(who)] for who in actors])
        starts, lengths = runs.unbind(1)
        ends = lengths.cumsum(0)
        ranks = _below(throws, ends[-1])
        run = torch.searchsorted(ends, ranks, right=True)
        positions = ranks + (starts - ends + lengths).index_select(0, run)
        return self._rings.index_select(0, positions).long()

    def _runs(self, who: Actor) -> tuple[tuple[int, int], tuple[int, int]]:
        """Start and length of the two runs of ring positions that hold the steps of an actor: up to
        the ring's end, and from its begin."""
        stored, base = self.stored((who,)), self._base(who)
        head = self._heads[who] % self._capacity
        unbroken = min(stored, self._capacity - head)
        return (base + head, unbroken), (base, stored - unbroken)

    def _ring(self, who: Actor) -> Tensor:
        return self._rings[self._base(who) :][: self._capacity]

    def _base(self, who: Actor) -> int:
        return ACTORS.index(who) * self._capacity

    def draw_complete(self, actors: Sequence[Actor], size: int, rng: torch.Generator) -> Tensor:
        """Like `draw`, from the complete steps alone: exact at once, but looks at every tag."""
        wanted = np.zeros(256, np.bool_)
        wanted[[who | COMPLETE for who in actors]] = True
        places = uploaded(np.flatnonzero(wanted[self.tags]), rng.device)
        ranks = torch.randint(len(places), (size,), generator=rng, device=rng.device)
        return places.index_select(0, ranks)

    def check_valid(
        self,
        places_by_age: Places,
        actor: npt.NDArray[np.uint8],
        complete: npt.NDArray[np.bool_],
    ) -> None:
        """AssertionError unless the tags are those of these actors' rows, [n], which are complete
        steps or not, and counts and rings equal a recount of the tags in order of age."""
        tags = self.tags[places_by_age]
        assert np.array_equal(tags & 0x7F, actor), "tags differ from the rows"
        assert np.array_equal(tags > 0x7F, complete), "complete steps differ from the rows"
        for who in ACTORS:
            own = places_by_age[(tags & ~np.uint8(COMPLETE)) == who]
            positions = np.arange(self._heads[who], self._tails[who]) % self._capacity
            kept = self._ring(who).cpu().numpy()[positions]
            assert np.array_equal(kept, own), f"{NAMES[who]}: the ring differs from the rows"
            counted = int((tags == who | COMPLETE).sum())
            assert self._complete[who] == counted, f"{NAMES[who]}: complete steps miscounted"
        assert set(np.unique(tags & ~np.uint8(COMPLETE))) <= {NOBODY, *ACTORS}, "unknown actor"


def _below(throws: Tensor, n: Tensor) -> Tensor:
    """Whole numbers below n, int64 [] and above 0, from throws of 0 to 1, float64 [size]."""
    # Rounding may lead up to n.
    return torch.minimum((throws * n).long(), n - 1)
