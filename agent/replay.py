"""The replay: each frame stored once, with who chose the action, and sampled as n-step windows.

A row is one record of agent.step; rows are overwritten in order of age. Returns are computed when
a batch is sampled, by following the links between rows (agent.links, agent.n_step), so that
`n_step` and `gamma` may change during a run and no observation is stored twice. Frames are stacked
then too.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agent.actor_index import ActorIndex, Composition
from agent.batch import Batch, joined
from agent.collective import ALONE, Collective
from agent.links import NONE, StreamTable
from agent.n_step import actors_of, follow, rewards_of
from agent.priority import Priorities, SavedPriorities, importance
from agent.row_store import RowStore, StoredRows
from agent.sampler import ALL, Quota, check_shares, draw_uniformly, groups_of, plan_uniform
from agent.shard_draw import ShardDraw
from agent.step import STEP, StepBlock
from agent.storage import gather
from agent.validation import check_block
from protocol.actor import ACTORS, NAMES, NOBODY, Actor
from protocol.messages import TERMINATED
from protocol.spaces import GameSpec

__all__ = ["Batch", "Composition", "Replay", "StoredRows"]


class Replay:
    """The newest `capacity_steps` rows of all streams, on one device ("cpu" or "cuda").

    `n_step`, `gamma` and `actor_share` are plain attributes and may be changed while running.
    `actor_share` gives an actor a fixed share of every batch, rounded to whole rows, for example
    {Actor.EXPERT: 0.25}; the other rows are drawn from the actors without a share. An actor with
    nothing to sample leaves its share to the others. Without shares, rows are drawn from all
    complete steps, whoever played them.

    Rows are drawn uniformly, or, with a `priority_alpha`, by priority (agent.priority): `beta` may
    be changed while running, and `update_priorities` is to be told what was learnt. `stacks` says
    how many frames of each observation batches have, the last ones of their episode; None: one.
    `memory`: numbers of the network's recurrent state; where there are any, batches have the `past`
    frames that led to each row.

    Neither `sample` nor `update_priorities` waits for a cuda device; drawing uniformly in the first
    moments of a run does, when less than half of the steps are complete.
    """

    def __init__(
        self,
        spec: GameSpec,
        capacity_steps: int,
        *,
        n_step: int,
        gamma: float,
        device: torch.device | str = "cpu",
        stop_at_actor_change: bool = True,
        actor_share: Mapping[Actor, float] | None = None,
        priority_alpha: float | None = None,
        stacks: Sequence[int] | None = None,
        memory: int = 0,
        past: int = 0,
        seed: int | None = None,
        collective: Collective = ALONE,
    ) -> None:
        """`collective`: of replays that batches are drawn from together (agent.shard_draw)."""
        if not 2 <= capacity_steps < 2**31:
            raise ValueError(f"capacity_steps: expected 2 to 2**31 - 1, got {capacity_steps}")
        stacks = stacks or [1] * len(spec.observations)
        if min(stacks) < 1 or len(stacks) != len(spec.observations):
            raise ValueError(f"stacks: expected at least 1 for each observation, got {stacks}")
        self.spec = spec
        self.capacity_steps = capacity_steps
        self.memory, self._past = memory, past
        self.n_step = n_step
        self.gamma = gamma
        self.stop_at_actor_change = stop_at_actor_change
        self.actor_share: Mapping[Actor, float] = dict(actor_share or {})
        self._check_settings()
        self.device = torch.device(device)
        self._may_wait = True
        self._rng = torch.Generator(self.device)
        if seed is None:
            self._rng.seed()
        else:
            self._rng.manual_seed(seed)
        self._discrete_columns = torch.tensor(
            spec.discrete_columns, dtype=torch.int64, device=self.device
        )
        self._continuous_columns = torch.tensor(
            spec.continuous_columns, dtype=torch.int64, device=self.device
        )
        self._rows = RowStore(spec, capacity_steps, self.device, stacks, memory)
        self._actors = ActorIndex(capacity_steps, self.device)
        self._priorities = (
            None
            if priority_alpha is None
            else Priorities(capacity_steps, priority_alpha, self.device)
        )
        # On the device too, so that what `sample` asks of it stays the same.
        self._beta_there = torch.zeros((), device=self.device)
        self.beta = 1.0
        self._shard = ShardDraw(collective) if collective.size > 1 else None
        self._streams = StreamTable()
        self._appended = 0
        if self.device.type != "cpu":
            self.wait_for_nothing()

    def __len__(self) -> int:
        """Stored steps. FINAL rows take room but do not count."""
        return self._actors.stored()

    @property
    def prioritized(self) -> bool:
        """Whether rows are drawn by priority."""
        return self._priorities is not None

    @property
    def shared(self) -> bool:
        """Whether batches are drawn together with other replays."""
        return self._shard is not None

    @property
    def can_sample(self) -> bool:
        """Whether there is a complete step."""
        return self._actors.complete() > 0

    @property
    def nbytes(self) -> int:
        """Bytes of storage when full, all index structures included."""
        priorities = self._priorities.nbytes if self._priorities else 0
        return self._rows.nbytes + self._actors.nbytes + priorities

    @property
    def beta(self) -> float:
        """How far `Batch.importance` makes up for drawing by priority: 0 not at all, 1 fully."""
        return self._beta

    @beta.setter
    def beta(self, beta: float) -> None:
        if not 0 <= beta <= 1:
            raise ValueError(f"beta: expected 0 to 1, got {beta}")
        self._beta = beta
        self._beta_there.fill_(beta)

    def actor_composition(self) -> Composition:
        """How many of the stored steps each actor played. O(1)."""
        return self._actors.composition()

    def append(self, block: StepBlock) -> None:
        """Store a block of rows, from any number of streams; the oldest rows make room.

        ValueError, and nothing is stored, where a row breaks the rules of agent.step: a step
        without a known actor, a final row with one, an unknown kind or status, columns of other
        shapes.
        """
        check_block(block, self.spec, self.memory)
        for start in range(0, len(block), self.capacity_steps):
            self._append(block.rows(start, start + self.capacity_steps))

    def _append(self, block: StepBlock) -> None:
        """Store a checked block of at most `capacity_steps` rows."""
        first = self._appended
        self._appended += len(block)
        links = self._streams.link(block, first, self._oldest)
        self._rows.write(block, links, first, self._oldest)
        complete = (links.next != NONE) | (block.status == TERMINATED)
        complete &= block.kind == STEP
        at = first % self.capacity_steps
        self._actors.replace(at, block.actor, complete)
        completed = self._actors.mark_complete(links.earlier % self.capacity_steps)
        if self._priorities is not None:
            self._priorities.replace(at, block.actor * complete)
            if len(completed):
                self._priorities.enter(completed, self._actors.complete_actors(completed))

    def sample(self, batch_size: int) -> Batch:
        """`batch_size` windows, drawn with replacement (see agent.n_step).

        ValueError where there is nothing to sample (`can_sample`) or a setting makes no sense.
        """
        return self.sample_several(batch_size, 1)

    def sample_several(self, batch_size: int, batches: int) -> Batch:
        """So many batches like that of `sample`, one after the other in one (`Batch.split`): of
        small ones all together cost little more than one does. By priority, all go by the
        priorities of now. Errors: as there.

        Where replays are drawn from together, all ranks' batches together have that size, and only
        one is drawn at a time.
        """
        self._check_settings()
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        if self.shared:
            assert batches == 1, "ranks have batches of unequal sizes"
            return self._windows(*self._draw_of_shard(batch_size))
        if not self.can_sample:
            raise ValueError(
                f"nothing to sample: none of the {len(self)} stored steps has a successor or "
                "ended its episode; append more first, and ask can_sample"
            )
        return self._windows(*self._draw(batch_size, batches))

    def _windows(self, first: Tensor, meta: Tensor, weights: Tensor) -> Batch:
        """The windows that begin at these places, as `_draw` returns them."""
        windows = follow(
            self._rows.meta,
            first,
            meta,
            n_step=self.n_step,
            gamma=self.gamma,
            oldest=self._rows.oldest,
            stop_at_actor_change=self.stop_at_actor_change,
        )
        actions = gather(self._rows.actions, first)
        # Both ends of all windows in one gather.
        ends = torch.cat((first, windows.last))
        seen, legal = self._rows.observations(ends), self._rows.legal_choices(ends)
        rows = len(first)
        return Batch(
            states=tuple(part[:rows] for part in seen),
            discrete=actions.index_select(1, self._discrete_columns).long(),
            continuous=actions.index_select(1, self._continuous_columns),
            recommended=actions[:, self.spec.action_width :].contiguous(),
            rewards=rewards_of(meta).contiguous(),
            returns=windows.returns,
            next_states=tuple(part[rows:] for part in seen),
            discounts=windows.discounts,
            actors=actors_of(meta).long(),
            horizons=windows.horizons,
            importance=weights,
            indices=first,
            legal=None if legal is None else legal[:rows],
            next_legal=None if legal is None else legal[rows:],
            past=self._rows.past(first, self._past, windows) if self.memory else None,
        )

    def update_priorities(self, indices: Tensor, td_errors: Tensor) -> None:
        """What was learnt from sampled rows: `Batch.indices`, before anything else is appended, and
        the TD error of each, float [B]. One that is not finite leaves the row's priority.

        ValueError where nothing is drawn by priority, or the shapes differ.
        """
        priorities = self._needed_priorities()
        if indices.dim() != 1 or indices.shape != td_errors.shape:
            raise ValueError(
                "expected a TD error for each of the rows, got "
                f"{list(td_errors.shape)} for indices {list(indices.shape)}"
            )
        indices = indices.to(self.device, non_blocking=True)
        actors = actors_of(gather(self._rows.meta, indices))
        priorities.update(indices, actors, td_errors.to(self.device))
        if self._shard is not None:
            priorities.largest.copy_(self._shard.largest(priorities.largest))

    def rows(self) -> StoredRows:
        """Every stored step, in order of age, as copies."""
        places = self._places_by_age()
        meta = self._rows.meta_rows(places)
        steps = meta["kind"] == STEP
        places = places[steps]
        taken, recommended = np.split(self._rows.actions.cpu().numpy()[places], 2, axis=1)
        versions = self._rows.policy_versions(places)
        return StoredRows(
            *self._rows.identify(places), versions, meta["actor"][steps], taken, recommended
        )

    def identify(self, indices: Tensor) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
        """Stream and seq of sampled rows: `Batch.indices`, before anything else is appended."""
        return self._rows.identify(indices.cpu().numpy())

    def priorities(self) -> dict[str, float]:
        """`max`, the largest priority so far, which new rows get, and `mean_dqn`, `mean_expert`,
        those of each actor's complete steps. NaN where there is none. Waits for the device."""
        numbers = {"max": math.nan} | {f"mean_{name}": math.nan for name in NAMES.values()}
        if self._priorities is not None:
            numbers["max"] = float(self._priorities.largest)
            for who, total in zip(ACTORS, self._priorities.totals().tolist(), strict=True):
                if complete := self._actors.complete((who,)):
                    numbers[f"mean_{NAMES[who]}"] = total / complete
        return numbers

    def saved_priorities(self) -> SavedPriorities:
        """The priorities of all stored rows, as copies. Waits for the device.

        ValueError where nothing is drawn by priority.
        """
        priorities, places = self._needed_priorities(), self._places_by_age()
        largest = np.array(float(priorities.largest), np.float32)
        return SavedPriorities(*self._rows.identify(places), priorities.of(places), largest)

    def restore_priorities(self, saved: SavedPriorities) -> None:
        """Give those of the stored rows that were there when it was saved the priorities that they
        had. Others keep what new rows get. ValueError where nothing is drawn by priority."""
        priorities, places = self._needed_priorities(), self._places_by_age()
        values = saved.of(*self._rows.identify(places))
        actors = self._actors.complete_actors(places)
        known = (values > 0) & (actors != NOBODY)
        largest = float(saved.largest)
        priorities.restore(places[known], actors[known], values[known], largest)

    def check_valid(self) -> None:
        """AssertionError unless counts, rings, links and priorities are what the stored rows say.
        Slow."""
        places = self._places_by_age()
        self._actors.check_valid(places, *self._rows.check_steps(places))
        self._rows.check_valid(places, self._oldest)
        if self._priorities is not None:
            everywhere = np.arange(self.capacity_steps)
            self._priorities.check_valid(self._actors.complete_actors(everywhere))

    def _needed_priorities(self) -> Priorities:
        if self._priorities is None:
            raise ValueError("nothing is drawn by priority: make the replay with a priority_alpha")
        return self._priorities

    @property
    def _oldest(self) -> int:
        """The smallest serial number that is not overwritten."""
        return max(self._appended - self.capacity_steps, 0)

    def _places_by_age(self) -> npt.NDArray[np.int64]:
        return np.arange(self._oldest, self._appended) % self.capacity_steps

    def wait_for_nothing(self) -> None:
        """From now on draw as on a device that is not waited for."""
        self._may_wait = False
        self._actors.keep_counts_on(self.device)
        self._rows.keep_no_buffers()

    @property
    def generator(self) -> torch.Generator:
        """What draws come from, on the replay's device."""
        return self._rng

    def draws(self, batch_size: int, batches: int) -> Hashable:
        """What drawing batches asks of the device beside numbers that lie there, as a key: while it
        stays, `sample_several` asks the same. None where that waits, or looks at the host."""
        groups = groups_of(self._actors, self.actor_share, batch_size)
        groups = [(tuple(actors), n * batches) for actors, n in groups]
        settings = self.n_step, self.gamma, self.stop_at_actor_change
        if self._priorities is not None:
            return settings, tuple(groups)
        plans = [plan_uniform(self._actors, group, may_wait=self._may_wait) for group in groups]
        if self._may_wait or any(plan.rounds == ALL for plan in plans):
            return None
        return settings, tuple(plans)

    def _draw(self, batch_size: int, batches: int) -> tuple[Tensor, Tensor, Tensor]:
        """Places of complete steps, int64 [n], their META, [n, 2], and importance weights, [n], of
        n rows: those of one batch after the other."""
        groups = groups_of(self._actors, self.actor_share, batch_size)
        if self._priorities is not None:
            drawn = [self._priorities.draw(groups, self._rng) for _ in range(batches)]
            places = joined([places for places, _ in drawn])
            weights = joined([importance(p, self._beta_there) for _, p in drawn])
            return places, gather(self._rows.meta, places), weights
        drawn = [self._uniform((actors, n * batches)) for actors, n in groups]
        # A row for each batch, in which the groups stand side by side.
        places = joined([places.view(batches, -1) for places, _ in drawn], dim=1)
        meta = joined([meta.view(batches, -1, 2) for _, meta in drawn], dim=1)
        ones = torch.ones(batch_size * batches, device=self.device)
        return places.view(-1), meta.view(-1, 2), ones

    def _uniform(self, group: Quota) -> tuple[Tensor, Tensor]:
        """Places of complete steps of a group, and their META."""
        plan = plan_uniform(self._actors, group, may_wait=self._may_wait)
        oldest = self._rows.oldest
        return draw_uniformly(self._actors, self._rows.meta, plan, self._rng, oldest)

    def _draw_of_shard(self, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
        """This rank's part of a batch, as of `_draw`. All ranks draw at once."""
        assert self._shard is not None
        priorities = self._priorities
        masses = None if priorities is None else priorities.totals()
        groups, rates = self._shard.quotas(self._actors, masses, self.actor_share, batch_size)
        if priorities is not None:
            places, p = priorities.draw(groups, self._rng, rates.to(self.device))
            weights = importance(p, self._beta_there, self._shard.smallest(p))
            return places, gather(self._rows.meta, places), weights
        drawn = [self._uniform(group) for group in groups]
        nothing = torch.empty(0, dtype=torch.int64, device=self.device)
        places = torch.cat([nothing, *(places for places, _ in drawn)])
        return places, gather(self._rows.meta, places), torch.ones(len(places), device=self.device)

    def _check_settings(self) -> None:
        if self.n_step < 1:
            raise ValueError(f"n_step: expected at least 1, got {self.n_step}")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma: expected 0 to 1, got {self.gamma}")
        check_shares(self.actor_share)
