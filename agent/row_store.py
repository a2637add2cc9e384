"""The columns of the rows that a replay holds, a place for each row, and how they are gathered.

Rows lie in the order in which they were appended; a row's place is its serial number (agent.links)
modulo the capacity. Columns that batches are made of lie on the replay's device, those that only
audits and checkpoints ask for on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agent.actor_index import Places
from agent.device import uploaded
from agent.legal import unpacked
from agent.links import NONE, Links
from agent.n_step import META, Windows
from agent.n_step import stacks as frame_places
from agent.past import Past
from agent.step import FINAL, STEP, StepBlock
from agent.storage import Buffers, gather, put, zeros
from protocol.actor import NOBODY
from protocol.messages import RUNNING, TERMINATED
from protocol.observations import DTYPES
from protocol.spaces import GameSpec


@dataclass(frozen=True, slots=True)
class StoredRows:
    """What the attribution audit wants to know of each stored step, in order of age."""

    stream: npt.NDArray[np.int64]
    seq: npt.NDArray[np.uint32]
    policy_version: npt.NDArray[np.uint32]
    actor: npt.NDArray[np.uint8]
    action: npt.NDArray[np.float32]
    recommended: npt.NDArray[np.float32]


class RowStore:
    """`capacity` places. `stacks`: how many frames of each observation are gathered, the last ones
    of their episode. `memory`: numbers of the network's recurrent state."""

    def __init__(
        self,
        spec: GameSpec,
        capacity: int,
        device: torch.device,
        stacks: Sequence[int],
        memory: int = 0,
    ) -> None:
        self._capacity = capacity
        self._device = device
        self._spec = spec
        self._stacks = stacks
        self.obs = tuple(
            zeros((capacity, each.size), DTYPES[each.dtype], device) for each in spec.observations
        )
        """A store for each of the game's observations, flat, in its dtype, [capacity, size]."""
        # Memory of batches on the host, used again; torch has its own for cuda.
        self._buffers: list[Buffers | None] = [Buffers() for _ in self.obs]
        self._past_buffers: list[Buffers | None] = [Buffers() for _ in self.obs]
        # Side by side, so that a batch gathers both at once.
        self.actions = zeros((capacity, 2 * spec.action_width), np.float32, device)
        """The action row taken and the one recommended, [capacity, 2 * action_width]."""
        self.legal: Tensor | None = None
        """Packed masks (protocol.masks), uint8 [capacity, legal_bytes], where the game has them."""
        if spec.masks:
            self.legal = zeros((capacity, spec.legal_bytes), np.uint8, device)
        self._choices = spec.choices
        self.meta = zeros((capacity, 2), np.int64, device)
        """One agent.n_step.META for each row, int64 [capacity, 2]."""
        self.state: Tensor | None = None
        """Recurrent states before each row, float16 [capacity, memory], of a network that has
        them."""
        if memory:
            self.state = zeros((capacity, memory), np.float16, device)
        linked = memory or max(stacks) > 1
        self._previous = zeros((capacity,), np.int64, device) if linked else None
        """The serial number of the row before, in the same episode: what stacks, and what led to a
        row, are made along."""
        host = torch.device("cpu")
        self._stream = zeros((capacity,), np.int64, host)
        self._seq = zeros((capacity,), np.uint32, host)
        self._policy_version = zeros((capacity,), np.uint32, host)
        # What changes from one batch to the next is kept on the device, so that what a batch asks
        # of it stays the same.
        self._oldest = torch.zeros((), dtype=torch.int64, device=device)

    def keep_no_buffers(self) -> None:
        """From now on batches get memory from torch, as on cuda."""
        self._buffers = self._past_buffers = [None for _ in self.obs]

    @property
    def nbytes(self) -> int:
        """Bytes of all columns when full."""
        stores = [*self.obs, self.actions, self.meta, self._stream, self._seq, self._policy_version]
        stores += [store for store in (self._previous, self.legal, self.state) if store is not None]
        return sum(store.nbytes for store in stores)

    @property
    def oldest(self) -> Tensor:
        """The smallest serial number that is not overwritten, int64 [], on the device."""
        return self._oldest

    def write(self, block: StepBlock, links: Links, first: int, oldest: int) -> None:
        """Write rows, of which the first has the serial number `first`, with the links that they
        make; `oldest` is the smallest serial number that is not overwritten behind them."""
        at = first % self._capacity
        meta = np.zeros(len(block), META)
        meta["next"] = links.next
        for name in ("reward", "actor", "status", "kind"):
            meta[name] = getattr(block, name)
        meta["status"][block.kind == FINAL] = RUNNING  # it ends nothing that could be drawn
        for store, part in zip(self.obs, self._spec.parts(block.obs), strict=True):
            put(store, at, part.reshape(len(block), -1))
        width = block.action.shape[1]
        put(self.actions[:, :width], at, block.action)
        put(self.actions[:, width:], at, block.recommended)
        if self.legal is not None:
            put(self.legal, at, block.legal)
        if self.state is not None:
            # Rows of a game that nobody played through the network (recordings) have none.
            none = np.broadcast_to(np.float16(0), (len(block), self.state.shape[1]))
            put(self.state, at, block.state if block.state.shape[1] else none)
        put(self.meta, at, meta.view(np.int64).reshape(-1, 2))
        put(self._stream, at, block.stream)
        put(self._seq, at, block.seq)
        put(self._policy_version, at, block.policy_version)
        if self._previous is not None:
            put(self._previous, at, links.previous(first))
        self._oldest.fill_(oldest)
        # Steps of earlier blocks that this block continues; none of them is overwritten by it.
        places = uploaded(links.earlier % self._capacity, self._device)
        self.meta[places, 0] = uploaded(links.earlier_next, self._device)

    def observations(
        self, places: Tensor, memory: Sequence[Buffers | None] | None = None
    ) -> tuple[Tensor, ...]:
        """Those of the rows at these places, int64 [B]: of each observation [B, *shape], or stacks
        of its frames, [B, k, *shape]. `memory`: where they are gathered to."""
        n, stack = len(places), places
        if self._previous is not None and max(self._stacks) > 1:
            found = frame_places(self._previous, places, max(self._stacks), self._oldest)
            stack = found.view(-1)
        gathered = []
        for store, observation, k, buffers in zip(
            self.obs, self._spec.observations, self._stacks, memory or self._buffers, strict=True
        ):
            rows = gather(store, stack if k > 1 else places, buffers)
            gathered.append(rows.view(n, *((k,) if k > 1 else ()), *observation.shape))
        return tuple(gathered)

    def past(self, first: Tensor, before: int, windows: Windows) -> Past:
        """What led to windows that start at the places `first`, int64 [B], and to where they end:
        `before` frames before the first one, and those of the windows."""
        assert self.state is not None
        assert self._previous is not None
        led = frame_places(self._previous, first, before + 1, self._oldest).T
        steps = torch.arange(len(windows.path), device=first.device)[:, None]
        real = torch.cat((led[:-1] != led[1:], steps < windows.horizons))
        places = torch.cat((led[:-1], windows.path))
        frames = tuple(
            each.view(*places.shape, *each.shape[1:])
            for each in self.observations(places.reshape(-1), self._past_buffers)
        )
        return Past(frames, real, gather(self.state, led[0]).float(), before)

    def legal_choices(self, places: Tensor) -> Tensor | None:
        """Which choices were legal in the rows at these places, int64 [B]: bool [B, choices]; None
        for a game without masks."""
        if self.legal is None:
            return None
        return unpacked(gather(self.legal, places), self._choices)

    def identify(self, places: Places) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
        """Stream and seq of the rows at these places, [n] each, as copies."""
        return self._stream.numpy()[places], self._seq.numpy()[places]

    def policy_versions(self, places: Places) -> npt.NDArray[np.uint32]:
        """Of the weights that the rows at these places were decided with, [n], as a copy."""
        return self._policy_version.numpy()[places]

    def meta_rows(self, places: Places) -> npt.NDArray[Any]:
        """META of the rows at these places, [n], as a copy. Waits for the device."""
        rows: npt.NDArray[Any] = self.meta.cpu().numpy().view(META)[places, 0]
        return rows

    def check_steps(self, places: Places) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Who played the rows at these places, and which are complete steps, [n] each.
        AssertionError where a step has no actor, or a final row has one. Slow."""
        meta = self.meta_rows(places)
        step = meta["kind"] == STEP
        assert np.all((meta["actor"] != NOBODY) == step), "a step without an actor"
        complete = step & ((meta["next"] != NONE) | (meta["status"] == TERMINATED))
        return meta["actor"], complete

    def check_valid(self, places: Places, oldest: int) -> None:
        """AssertionError unless links lead where they may. `places`: those of all rows, in order of
        age; `oldest`: the serial number of the first. Slow."""
        meta = self.meta_rows(places)
        stream, seq = self.identify(places)
        step, linked = meta["kind"] == STEP, meta["next"] != NONE
        here = np.flatnonzero(linked)
        there = meta["next"][here] - oldest
        assert np.all((there > here) & (there < len(places))), "a link to no newer row"
        assert np.all(stream[there] == stream[here]), "a link to another stream"
        assert np.all(seq[there] - seq[here] == 1), "a link over a gap"
        assert np.all(step[here]), "a link from a final row"
        running, final = meta["status"][here] == RUNNING, meta["kind"][there] == FINAL
        assert np.all(running | final), "a link across the end of an episode"
        if self._previous is not None:
            expected = np.full(len(places), NONE)
            expected[there] = here + oldest
            previous = self._previous.cpu().numpy()[places]
            previous[previous < oldest] = NONE
            assert np.array_equal(previous, expected), "links back differ from those forward"
