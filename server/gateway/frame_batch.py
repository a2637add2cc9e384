"""The frames that wait for their answers, as rows of arrays, and who waits for which rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from protocol.actor import NOBODY
from protocol.errors import RemoteError
from protocol.masks import ALL_LEGAL, mask_bytes
from protocol.messages import Frame, Frames
from protocol.spaces import GameSpec, Part
from server.gateway.lazy_arrays import LazyArrays


class FrameClient(Protocol):
    """What the frame loop needs of a connection."""

    rows: npt.NDArray[np.int64]
    """The rows of its slots in the table."""

    def send(self, data: bytes) -> None:
        """Send bytes, unless the connection is gone."""

    def answered(self, slot: int | None) -> None:
        """The frame of this slot (None: of all slots) is answered."""

    def fail(self, error: RemoteError) -> None:
        """End the connection with an error."""


class FrameContext(Protocol):
    """What the adapter of another format keeps with a frame until the frame is answered."""

    def encode(self, action: Sequence[Part] | None, actor: int, explored: bool) -> bytes:
        """The answer in the adapter's format; an action of None ends an episode."""

    @staticmethod
    def expert_fields(contexts: Sequence[Any]) -> Mapping[str, npt.NDArray[Any]]:
        """What these n contexts, all of this class, tell the server's expert beside the
        observations: an array [n] for each name."""


class BatchEntry(NamedTuple):
    """Who waits for the next `n` rows of the batch: one frame of a slot, or one of each slot."""

    client: FrameClient
    slot: int | None
    """None: of each slot."""
    n: int
    context: FrameContext | None


class FrameBatch:
    """The frames that arrived in this loop turn.

    A slot has at most one frame waiting, so the batch never needs more rows than the table.
    """

    def __init__(self, spec: GameSpec, frame_stack: int, most: int, memory: int = 0) -> None:
        self.n = 0
        self.entries: list[BatchEntry] = []
        """In the order of their rows."""
        self.has_contexts = False
        """Some entries may have a context."""
        self.started = 0.0
        """When the first frame came, by `perf_counter`."""
        self._spec, self._masks = spec, bool(spec.masks)
        self.memory = LazyArrays(most)
        array = self.memory.array
        self.row = array(np.int64)
        """The slot's row in the table."""
        self.obs = array(spec.observation_dtype, spec.observation_size)
        self.rewards = array(np.float32, len(spec.rewards))
        """By component, as the game sent them."""
        self.earned = array(np.float32)
        """Their weighted sum (server.gateway.rewards)."""
        self.status = array(np.uint8)
        self.seq = array(np.uint32)
        self.expert = array(np.float32, spec.action_width)
        """The recommendation; NaN where there is none."""
        self.took = array(np.float32, spec.action_width)
        self.took_actor = array(np.uint8)
        """Who really acted, 0 where the answer was followed."""
        self.legal = array(np.uint8, spec.legal_bytes)
        """Which choices are legal, packed (protocol.masks); no bytes without masks."""
        self.choices = array(np.bool_, spec.choices if spec.masks else 0)
        """The same unpacked, once server.gateway.frame_masks has looked at them."""
        self.asked = array(spec.observation_dtype, frame_stack * spec.observation_size)
        """The rows of observations that the network is asked about, one below the other: each one
        frame, or the frames of a stack side by side."""
        self.recurrent = array(np.float32, memory)
        """The network's recurrent states of those rows."""
        self.actions = array(np.float32, spec.action_width)
        self.actors = array(np.uint8)
        self.explored = array(np.uint8)
        self.expert_leads = array(np.bool_)
        self.frames_left = array(np.int64)
        """The slot's, as in the table."""

        self._obs_bytes = self.obs.view(np.uint8).reshape(-1).data
        """The memory of `obs`, byte by byte: copying a frame's observation there is one call."""

    def add_frame(
        self, client: FrameClient, frame: Frame, context: FrameContext | None = None
    ) -> None:
        """Add a checked FRAME. Errors: RemoteError about its actions."""
        spec, slot = self._spec, frame.slot
        try:
            expert = None if frame.expert is None else spec.action_row(frame.expert)
            took = None if frame.took is None else spec.action_row(frame.took[0])
        except RemoteError as error:
            raise error.in_slot(slot, len(client.rows)) from None
        i = self.n
        size = spec.observation_bytes
        self._obs_bytes[i * size : (i + 1) * size] = frame.obs
        self.row[i] = client.rows[slot]
        self.rewards[i] = frame.reward
        self.status[i] = frame.status
        self.seq[i] = frame.seq
        if expert is None:
            self.expert[i] = np.nan
        else:
            self.expert[i] = expert
        if took is None:
            self.took_actor[i] = NOBODY
        else:
            assert frame.took is not None
            self.took[i] = took
            self.took_actor[i] = frame.took[1]
        if self._masks:
            given = mask_bytes(frame.legal, 1, spec)
            self.legal[i] = ALL_LEGAL if given is None else np.frombuffer(given, np.uint8)
        if context is not None:
            self.has_contexts = True
        if not i:
            self.started = perf_counter()
        self.entries.append(BatchEntry(client, slot, 1, context))
        self.n = i + 1

    def add_frames(self, client: FrameClient, frames: Frames) -> None:
        """Add a checked FRAMES."""
        spec = self._spec
        count = len(client.rows)
        at = slice(self.n, self.n + count)
        self.obs[at] = np.frombuffer(frames.obs, spec.observation_dtype).reshape(count, -1)
        self.row[at] = client.rows
        self.rewards[at] = np.frombuffer(frames.rewards, "<f4").reshape(count, -1)
        self.status[at] = np.frombuffer(frames.statuses, np.uint8)
        self.seq[at] = frames.seq
        if frames.experts is None:
            self.expert[at] = np.nan
        else:
            self.expert[at] = np.frombuffer(frames.experts, "<f4").reshape(count, -1)
            self.expert[at][np.isnan(self.expert[at, 0])] = np.nan
        if frames.took is None:
            self.took_actor[at] = NOBODY
        else:
            self.took[at] = np.frombuffer(frames.took[0], "<f4").reshape(count, -1)
            self.took_actor[at] = np.frombuffer(frames.took[1], np.uint8)
        if self._masks:
            given = mask_bytes(frames.legal, count, spec)
            self.legal[at] = (
                ALL_LEGAL if given is None else np.frombuffer(given, np.uint8).reshape(count, -1)
            )
        if not self.n:
            self.started = perf_counter()
        self.entries.append(BatchEntry(client, None, count, None))
        self.n += count

    def contexts(self) -> dict[int, FrameContext]:
        """The contexts that there are, by row."""
        found: dict[int, FrameContext] = {}
        if self.has_contexts:
            row = 0
            for entry in self.entries:
                if entry.context is not None:
                    found[row] = entry.context
                row += entry.n
        return found

    def refuse(self, good: npt.NDArray[np.bool_], error: Callable[[int], RemoteError]) -> None:
        """Fail every client that has a frame that is not `good` [n], with `error` of its first one,
        which then names the slot; and drop the client's frames."""
        start, kept = 0, []
        for entry in self.entries:
            rows = slice(start, start + entry.n)
            start = rows.stop
            if good[rows].all():
                kept.append(entry)
                continue
            bad = int(np.argmin(good[rows]))
            slot = bad if entry.slot is None else entry.slot
            entry.client.fail(error(rows.start + bad).in_slot(slot, len(entry.client.rows)))
            good[rows] = False
        self.entries = kept
        self.keep(good)

    def keep(self, mask: npt.NDArray[np.bool_]) -> None:
        """Drop the frames where `mask` [n] is false, in place."""
        kept = np.flatnonzero(mask)
        for array in vars(self).values():
            if isinstance(array, np.ndarray):
                array[: len(kept)] = array[kept]
        self.n = len(kept)

    def clear(self) -> None:
        """All frames are answered."""
        self.n = 0
        self.entries.clear()
        self.has_contexts = False
