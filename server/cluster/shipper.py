"""Sends a gateway's rows to its learner, in order, and lets go of them once they are kept there.

It sends on before they are: what is on its way is what lies between the ring's first row and the
next one to send. Where the learner begins anew, it says which row it wants, and that is sent again.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.step import StepBlock
from protocol.spaces import GameSpec
from server.cluster.blocks import packed
from server.cluster.messages import Delivery, Receipt
from server.ipc.step_ring import StepRing

BLOCK_ROWS = 4096
"""Rows that are sent at a time at most: a call costs as much as hundreds of rows."""


class Shipper:
    """One gateway's rows."""

    def __init__(
        self,
        ring: StepRing,
        spec: GameSpec,
        memory: int,
        node: int,
        send: Callable[[Delivery], Receipt],
    ) -> None:
        """`node`: which one this is. `send`: delivers to the learner; it may fail with whatever
        error, and is called again."""
        self._ring = ring
        self._spec, self._memory = spec, memory
        self._node = node
        self._send = send
        self._next = ring.origin.first
        """The number of the next row to send."""
        self.allowed = 0
        """Of the newest receipt."""

    @property
    def waiting(self) -> int:
        """Rows that were not acknowledged."""
        return self._ring.used

    @property
    def answered(self) -> int:
        """Frames that the gateway has answered for training."""
        return self._ring.answered

    def step(self) -> bool:
        """Send what there is, at most a block, and take in what the learner says: whether there is
        more to send at once. Errors: those of `send`."""
        ring = self._ring
        source, first = ring.origin
        self._next = max(self._next, first)
        block: StepBlock | None = ring.read(BLOCK_ROWS, self._next - first)
        rows = 0 if block is None else len(block)
        columns = None if block is None else packed(block, self._spec, self._memory)
        del block  # an error of `send` may hold this frame, and a view would keep the ring open
        receipt = self._send(
            Delivery(
                source.gateway,
                source.incarnation,
                self._next,
                rows,
                columns,
                ring.answered,
                first,
                ring.steps_read,
                self._node,
            )
        )
        if receipt.wanted < 0:
            return False
        self.allowed = receipt.allowed
        took = receipt.wanted > self._next
        self._next = receipt.wanted
        if receipt.kept > first:
            ring.release(receipt.kept - first)
        return took and ring.used > receipt.wanted - receipt.kept
