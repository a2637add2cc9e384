"""What a learner takes in from gateways on any machine: a ring here for each gateway there.

The trainer reads these rings as it reads those of gateways beside it. Their counters say which rows
it has kept, so that is what a gateway is told, and it lets go of no row before.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from agent.source import Origin, Source
from protocol.spaces import GameSpec
from server.cluster.blocks import unpacked
from server.cluster.messages import Delivery, Receipt
from server.ipc.step_ring import StepRing

NOT_YET = Receipt(-1, -1, 0)
"""Nothing can be taken now: it is to be sent again in a moment."""


class _Entry:
    """The ring of one gateway."""

    def __init__(self, ring: StepRing) -> None:
        self.ring = ring
        self.node = -1
        self.began = False
        """Rows of its gateway have come."""
        self.steps_before = 0
        """STEP rows of the gateway's own ring that are not counted here: they were kept before."""
        self.answered = 0
        """By the gateway, those before included."""


class Inbox:
    """Rings of this machine that rows from other machines are written into."""

    def __init__(
        self, spec: GameSpec, gateways: Iterable[int], capacity: int, memory: int, launch: int
    ) -> None:
        """A ring of `capacity` rows for each gateway, by its number. `memory`: numbers of the
        network's recurrent state. Errors: MemoryError."""
        self._spec, self._memory = spec, memory
        self._lock = threading.Lock()
        self._entries: dict[int, _Entry] = {}
        for gateway in gateways:
            ring = StepRing.create(spec, capacity, Source(gateway, launch), memory)
            self._entries[gateway] = _Entry(ring)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the rings' shared memory."""
        return tuple(entry.ring.name for entry in self._entries.values())

    @property
    def rings(self) -> Sequence[StepRing]:
        """All of them."""
        return [entry.ring for entry in self._entries.values()]

    @property
    def kept(self) -> dict[int, int]:
        """STEP rows of each gateway's ring that the trainer has kept, those before this inbox
        included."""
        entries = self._entries.items()
        return {g: entry.ring.steps_read + entry.steps_before for g, entry in entries}

    @property
    def used(self) -> int:
        """Rows that wait for the trainer."""
        return sum(ring.used for ring in self.rings)

    def take(self, delivery: Delivery, allowed: int) -> Receipt:
        """Write down what fits of a delivery, and say what is here and what is kept. `allowed`:
        frames that this learner's gateways may have answered, by their rings here. Errors:
        ValueError where the bytes are not those of so many rows."""
        with self._lock:
            entry = self._entries[delivery.gateway]
            ring, source = entry.ring, Source(delivery.gateway, delivery.incarnation)
            if entry.began and delivery.incarnation < ring.origin.source.incarnation:
                return NOT_YET  # of a machine that was taken for lost, and what it had is counted
            if not entry.began or ring.origin.source != source:
                if ring.used:  # of a ring that its machine has lost: they are taken in first
                    return NOT_YET
                ring.begin_at(Origin(source, delivery.oldest))
                entry.began, entry.node = True, delivery.node
                entry.steps_before = delivery.steps_kept - ring.steps
            written = ring.origin.first + ring.used
            if delivery.rows and delivery.first == written:
                rows = min(delivery.rows, ring.free)
                block = unpacked(delivery.columns, delivery.rows, self._spec, self._memory)
                if rows:
                    ring.write(block.rows(0, rows))
                    written += rows
            entry.answered = delivery.answered
            ring.answered = delivery.answered - entry.steps_before
            return Receipt(written, ring.origin.first, self._share(delivery.node, allowed))

    def _share(self, node: int, allowed: int) -> int:
        """Of the frames that may be answered, what is left for the gateways of one node."""
        of_node, before = 0, 0
        for entry in self._entries.values():
            before += entry.steps_before
            of_node += 0 if entry.node == node else entry.answered
        return allowed + before - of_node

    def close(self) -> None:
        """Remove the rings."""
        with self._lock:
            for ring in self.rings:
                ring.close()
                ring.unlink()
            self._entries.clear()
