"""The replay: each frame stored once, with who chose the action, and sampled as n-step windows.

A row is one record of agent.step; rows are overwritten in order of age. Returns are computed when
a batch is sampled, by following the links between rows (agent.links, agent.windows), so that
`n_step` and `gamma` may change during a run and no observation is stored twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agent.actor_index import ActorIndex
from agent.admission import check_block
from agent.links import NONE, StreamTable
from agent.step import FINAL, STEP, StepBlock
from agent.storage import Buffers, gather, put, zeros
from agent.windows import META, actors_of, follow, incomplete, rewards_of
from protocol.actor import ACTORS, NOBODY, Actor
from protocol.messages import RUNNING, TERMINATED
from protocol.spaces import GameSpec

MISS = 1e-9
"""On a device that must not be waited for, draws are repeated as often as makes it this unlikely
that a batch is left with a step that is not complete (a window without a reward)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """`B` windows, on the replay's device. With shares, rows of one actor stand together."""

    states: Tensor
    """Observations of the first steps, the spec's dtype, [B, *observation shape]."""
    discrete: Tensor
    """Choices, one column for each discrete head, int64 [B, D]."""
    continuous: Tensor
    """Continuous actions, the columns of all continuous heads, float32 [B, C]."""
    rewards: Tensor
    """One-step rewards of the first steps, float32 [B]."""
    returns: Tensor
    """Sum over the window of gamma**k times the reward k steps on, float32 [B]."""
    next_states: Tensor
    """Observations to bootstrap from, like `states`; any stored one where `discounts` is 0."""
    discounts: Tensor
    """gamma**horizon, and 0 where the window ends in a terminal step, float32 [B]."""
    actors: Tensor
    """protocol.actor.Actor of the first steps, int64 [B]."""
    horizons: Tensor
    """Number of rewards in `returns`, at least 1, int64 [B]."""
    importance: Tensor
    """What each row's loss is to be multiplied by; ones where sampling is uniform, float32 [B]."""
    indices: Tensor
    """Places of the first steps in the replay, valid until the next append, int64 [B]."""

    def __len__(self) -> int:
        return len(self.rewards)

    def to(self, device: torch.device | str) -> Batch:
        """This batch on another device; copies to a cuda device may still be under way."""
        # Never so towards the host: it would read what has not arrived yet.
        non_blocking = torch.device(device).type != "cpu"
        columns = (getattr(self, f.name) for f in fields(self))
        return Batch(*(column.to(device, non_blocking=non_blocking) for column in columns))


@dataclass(frozen=True, slots=True)
class Composition:
    """How many of the stored steps each actor played. Fractions of no steps are 0."""

    total: int
    dqn: int
    expert: int
    frac_dqn: float
    frac_expert: float


@dataclass(frozen=True, slots=True)
class StoredRows:
    """What the attribution audit wants to know of each stored step, in order of age."""

    stream: npt.NDArray[np.int64]
    seq: npt.NDArray[np.uint32]
    actor: npt.NDArray[np.uint8]
    action: npt.NDArray[np.float32]


class Replay:
    """The newest `capacity_steps` rows of all streams, on one device ("cpu" or "cuda").

    `n_step`, `gamma` and `actor_share` are plain attributes and may be changed while running.
    `actor_share` gives an actor a fixed share of every batch, rounded to whole rows, for example
    {Actor.EXPERT: 0.25}; the other rows are drawn uniformly over the actors without a share.
    An actor with nothing to sample leaves its share to the others. Without shares, sampling is
    uniform over all complete steps, whoever played them.

    Sampling does not wait for a cuda device, the first moments of a run apart, when less than half
    of the steps are complete.
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
        seed: int | None = None,
    ) -> None:
        if not 2 <= capacity_steps < 2**31:
            raise ValueError(f"capacity_steps: expected 2 to 2**31 - 1, got {capacity_steps}")
        self.spec = spec
        self.capacity_steps = capacity_steps
        self.n_step = n_step
        self.gamma = gamma
        self.stop_at_actor_change = stop_at_actor_change
        self.actor_share: Mapping[Actor, float] = dict(actor_share or {})
        self._check_settings()
        self.device = torch.device(device)
        self._may_wait = self.device.type == "cpu"
        self._buffers = Buffers() if self.device.type == "cpu" else None  # cuda: torch keeps its
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
        self._obs = zeros(
            (capacity_steps, spec.observation_size), spec.observation_dtype, self.device
        )
        self._action = zeros((capacity_steps, spec.action_width), np.float32, self.device)
        self._meta = zeros((capacity_steps, 2), np.int64, self.device)  # each row one META
        self._actors = ActorIndex(capacity_steps, self.device)
        # Asked for by the audit alone, so on the host whatever the device.
        self._stream = zeros((capacity_steps,), np.int64, torch.device("cpu"))
        self._seq = zeros((capacity_steps,), np.uint32, torch.device("cpu"))
        self._streams = StreamTable()
        self._appended = 0

    def __len__(self) -> int:
        """Stored steps. FINAL rows take room but do not count."""
        return self._actors.stored()

    @property
    def can_sample(self) -> bool:
        """Whether there is a complete step."""
        return self._actors.complete() > 0

    @property
    def nbytes(self) -> int:
        """Bytes of storage when full, all index structures included."""
        stores = (self._obs, self._action, self._meta, self._stream, self._seq)
        return self._actors.nbytes + sum(store.nbytes for store in stores)

    def actor_composition(self) -> Composition:
        """How many of the stored steps each actor played. O(1)."""
        dqn, expert = (self._actors.stored((who,)) for who in (Actor.DQN, Actor.EXPERT))
        total = dqn + expert
        return Composition(total, dqn, expert, dqn / max(total, 1), expert / max(total, 1))

    def append(self, block: StepBlock) -> None:
        """Store a block of rows, from any number of streams; the oldest rows make room.

        ValueError, and nothing is stored, where a row breaks the rules of agent.step: a step
        without a known actor, a final row with one, an unknown kind or status, columns of other
        shapes.
        """
        check_block(block, self.spec)
        for start in range(0, len(block), self.capacity_steps):
            self._append(block.rows(start, start + self.capacity_steps))

    def _append(self, block: StepBlock) -> None:
        """Store a checked block of at most `capacity_steps` rows."""
        capacity, first = self.capacity_steps, self._appended
        self._appended += len(block)
        links = self._streams.link(block, first, self._oldest)
        meta = np.zeros(len(block), META)
        meta["next"] = links.next
        for name in ("reward", "actor", "status", "kind"):
            meta[name] = getattr(block, name)
        at = first % capacity
        put(self._obs, at, block.obs)
        put(self._action, at, block.action)
        put(self._meta, at, meta.view(np.int64).reshape(-1, 2))
        put(self._stream, at, block.stream)
        put(self._seq, at, block.seq)
        complete = (links.next != NONE) | (block.status == TERMINATED)
        self._actors.replace(at, block.actor, complete & (block.kind == STEP))
        # Steps of earlier blocks that this block continues; none of them is overwritten by it.
        places = links.earlier % capacity
        self._meta[torch.from_numpy(places).to(self.device), 0] = torch.from_numpy(
            links.earlier_next
        ).to(self.device)
        self._actors.mark_complete(places)

    def sample(self, batch_size: int) -> Batch:
        """`batch_size` windows, drawn with replacement (see agent.windows).

        ValueError where there is nothing to sample (`can_sample`) or a setting makes no sense.
        """
        self._check_settings()
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        if not self.can_sample:
            raise ValueError(
                f"nothing to sample: none of the {len(self)} stored steps has a successor or "
                "ended its episode; append more first, and ask can_sample"
            )
        drawn = [self._draw(actors, size) for actors, size in self._groups(batch_size)]
        first = torch.cat([places for places, _ in drawn]) if len(drawn) > 1 else drawn[0][0]
        meta = torch.cat([meta for _, meta in drawn]) if len(drawn) > 1 else drawn[0][1]
        windows = follow(
            self._meta,
            first,
            meta,
            n_step=self.n_step,
            gamma=self.gamma,
            oldest=self._oldest,
            stop_at_actor_change=self.stop_at_actor_change,
        )
        action = gather(self._action, first)
        shape = (batch_size, *self.spec.observation.shape)
        return Batch(
            states=gather(self._obs, first, self._buffers).view(shape),
            discrete=action.index_select(1, self._discrete_columns).long(),
            continuous=action.index_select(1, self._continuous_columns),
            rewards=rewards_of(meta).contiguous(),
            returns=windows.returns,
            next_states=gather(self._obs, windows.last, self._buffers).view(shape),
            discounts=windows.discounts,
            actors=actors_of(meta).long(),
            horizons=windows.horizons,
            importance=torch.ones_like(windows.returns),
            indices=first,
        )

    def rows(self) -> StoredRows:
        """Every stored step, in order of age, as copies."""
        places = self._places_by_age()
        meta = self._meta.cpu().numpy().view(META)[:, 0]
        places = places[meta["kind"][places] == STEP]
        return StoredRows(
            self._stream.numpy()[places],
            self._seq.numpy()[places],
            meta["actor"][places],
            self._action.cpu().numpy()[places],
        )

    def identify(self, indices: Tensor) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
        """Stream and seq of sampled rows: `Batch.indices`, before anything else is appended."""
        places = indices.cpu().numpy()
        return self._stream.numpy()[places], self._seq.numpy()[places]

    def check_valid(self) -> None:
        """AssertionError unless counts, rings and links are what the stored rows say. Slow."""
        places = self._places_by_age()
        meta = self._meta.cpu().numpy().view(META)[places, 0]
        stream, seq = self._stream.numpy()[places], self._seq.numpy()[places]
        step, linked = meta["kind"] == STEP, meta["next"] != NONE
        tags = self._actors.tags[places]
        complete = step & (linked | (meta["status"] == TERMINATED))
        assert np.array_equal(tags & 0x7F, meta["actor"]), "tags differ from the rows"
        assert np.array_equal(tags > 0x7F, complete), "complete steps differ from the rows"
        assert np.all((meta["actor"] != NOBODY) == step), "a step without an actor"
        self._actors.check_valid(places)
        here = np.flatnonzero(linked)
        there = meta["next"][here] - self._oldest
        assert np.all((there > here) & (there < len(places))), "a link to no newer row"
        assert np.all(stream[there] == stream[here]), "a link to another stream"
        assert np.all(seq[there] - seq[here] == 1), "a link over a gap"
        assert np.all(step[here]), "a link from a final row"
        running, final = meta["status"][here] == RUNNING, meta["kind"][there] == FINAL
        assert np.all(running | final), "a link across the end of an episode"

    @property
    def _oldest(self) -> int:
        """The smallest serial number that is not overwritten."""
        return max(self._appended - self.capacity_steps, 0)

    def _places_by_age(self) -> npt.NDArray[np.int64]:
        return np.arange(self._oldest, self._appended) % self.capacity_steps

    def _groups(self, batch_size: int) -> list[tuple[Sequence[Actor], int]]:
        """The groups of actors that a batch is drawn from, and the rows of each."""
        groups: list[tuple[Sequence[Actor], int]] = []
        left = batch_size
        for who, share in self.actor_share.items():
            size = min(round(share * batch_size), left) if self._actors.complete((who,)) else 0
            if size:
                groups.append(((who,), size))
                left -= size
        if left:
            others = [who for who in ACTORS if who not in self.actor_share]
            groups.append((others if self._actors.complete(others) else ACTORS, left))
        return groups

    def _draw(self, actors: Sequence[Actor], size: int) -> tuple[Tensor, Tensor]:
        """Places [size] of complete steps of these actors, uniform over them, and their meta."""
        actors = [who for who in actors if self._actors.complete((who,))]
        unfit = 1 - self._actors.complete(actors) / self._actors.stored(actors)
        if unfit > 0.5:  # the first moments of a run, or broken streams: drawing gets slow
            places = self._actors.draw_complete(actors, size, self._rng)
            return places, gather(self._meta, places)
        if self._may_wait:
            places = self._actors.draw(actors, size, self._rng)
            meta = gather(self._meta, places)
            bad = incomplete(meta, self._oldest).nonzero().view(-1)
            while len(bad):
                places[bad] = self._actors.draw(actors, len(bad), self._rng)
                meta[bad] = gather(self._meta, places[bad])
                bad = bad[incomplete(meta[bad], self._oldest)]
            return places, meta
        rounds = 1 if not unfit else math.ceil(math.log(MISS / size) / math.log(unfit))
        drawn = self._actors.draw(actors, rounds * size, self._rng)
        meta = gather(self._meta, drawn)
        good = ~incomplete(meta, self._oldest).view(rounds, size)
        chosen = good.byte().argmax(0) * size + torch.arange(size, device=self.device)
        return drawn.index_select(0, chosen), gather(meta, chosen)

    def _check_settings(self) -> None:
        if self.n_step < 1:
            raise ValueError(f"n_step: expected at least 1, got {self.n_step}")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma: expected 0 to 1, got {self.gamma}")
        shares = self.actor_share
        unknown = [who for who in shares if who not in ACTORS]
        if unknown or not all(0 <= share <= 1 for share in shares.values()):
            raise ValueError(f"actor_share: expected a share of 0 to 1 for actors, got {shares}")
        if sum(shares.values()) > 1 + 1e-9:
            raise ValueError(f"actor_share: expected shares of at most 1 together, got {shares}")
