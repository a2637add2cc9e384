"""The gateways of one machine of a cluster: their processes of today, and what links them to the
learner of another machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.source import Source
from protocol.spaces import GameSpec
from server.cluster.actor_folders import folders, own_folder, remove_earlier, remove_folder
from server.cluster.crash_counters import (
    begin_counting,
    end_left,
    note_process,
    note_whose,
    read_left,
)
from server.cluster.host import ProcessHost
from server.cluster.learner_shard import Weights
from server.cluster.messages import (
    Answered,
    Decide,
    Delivery,
    Elsewhere,
    Forget,
    Receipt,
    Reply,
    RingNumbers,
    Setup,
    Start,
    StopListening,
)
from server.cluster.shipper import Shipper
from server.cluster.traffic import Traffic
from server.ipc import shared_memory
from server.ipc.inflight import InFlightCounters
from server.ipc.messages import Changed, Open, Settled
from server.ipc.step_ring import StepRing
from server.ipc.weight_slot import WeightSlot
from server.net.sockets import GatewaySockets, listen
from server.supervisor import entry_points

SESSIONS = 1 << 20
"""Sessions of one gateway between two losses of its machine: numbers go on behind so many."""


class GatewayNode(ProcessHost):
    """Gateways, their rings and their weight slot, on one machine."""

    def __init__(
        self,
        number: int,
        gateways: tuple[int, ...],
        deliver: Callable[[Delivery], Receipt],
        weights: Callable[[int, float], Weights],
    ) -> None:
        """`number`: of this node. `gateways`: those that it starts, by number. `deliver`: to the
        learner that their rows belong to; `weights`: of the first learner, above a version, after
        at most so many seconds. Both may fail, and are called again."""
        super().__init__()
        self._number = number
        self._gateways = gateways
        self._deliver, self._weights = deliver, weights
        self._sockets: list[GatewaySockets] = []
        self._rings: dict[int, StepRing] = {}
        self._counters: InFlightCounters | None = None
        self._generations = dict.fromkeys(gateways, 0)
        """Of each gateway's newest process."""
        self._slot: WeightSlot | None = None
        self._left: dict[int, Answered] = {}
        self._elsewhere = 0
        self._begun = False
        self._traffic: Traffic | None = None
        self._spec: GameSpec | None = None

    # Called by the driver.

    def carry_out(self, order: Any) -> None:
        if isinstance(order, Setup):
            self._look_back(order)
            shared_memory.remove_left(self._own(order))
            server = order.config.server.model_copy(update={"gateways": len(self._gateways)})
            self._sockets = listen(order.config.model_copy(update={"server": server}))
        elif isinstance(order, Decide):
            self._decide(order.spec)
        elif isinstance(order, Elsewhere):  # the run has begun: what others have left is counted
            if not self._begun and self.setup is not None:
                remove_earlier("node", self.setup)
                self._begun = True
            self._elsewhere = order.elsewhere
            if self._slot is not None:
                self._slot.base_frames = order.elsewhere
        elif isinstance(order, StopListening):
            self.stop_listening()
        elif isinstance(order, Forget):
            self._forget()
        else:
            super().carry_out(order)

    def _look_back(self, setup: Setup) -> None:
        """See what gateways of actors that were killed had answered for: their counters are in
        files of this machine, whichever node it was then."""
        own = self._own(setup)
        for folder in folders("node", setup):
            end_left(folder, setup, own=folder == own)
            self._left |= read_left(folder)

    def _decide(self, spec: GameSpec) -> None:
        """Make what the game needs here. Errors: MemoryError."""
        setup = self.setup
        assert setup is not None
        if self._rings:
            return
        config = setup.config
        for index in self._gateways:
            source = Source(index, (setup.made << 20) + setup.launch)
            memory = config.learner.state_size
            ring = StepRing.create(spec, config.server.ring_steps, source, memory)
            ring.begin_sessions(setup.made * SESSIONS)
            self._rings[index] = ring
        shared_memory.note(self._own(setup), [ring.name for ring in self._rings.values()])
        everywhere = config.server.gateways
        self._counters = begin_counting(self._own(setup), setup, self._generations, everywhere)
        self._spec = spec

    def started(self, order: Start) -> tuple[Callable[..., None], tuple[Any, ...], tuple[Any, ...]]:
        assert self.setup is not None
        index = int(order.name.rpartition("-")[2])
        self._generations[index] = order.generation
        if self._counters is not None:  # what was lost with the one before has been counted
            self._counters.gateway_gone(index, self._rings[index].steps)
            note_whose(self._own(self.setup), self.setup, self._generations)
        first = (order.config, index, self.setup.launch)
        return entry_points.gateway, first, self._sockets[self._gateways.index(index)]

    def runs(self, pid: int) -> None:
        assert self.setup is not None
        note_process(self._own(self.setup), self.setup, pid)

    def down(self, name: str, message: Any) -> Any:
        if isinstance(message, Open):
            return self._opening(int(name.rpartition("-")[2]), message)
        if isinstance(message, Changed):
            setup = self.setup
            assert setup is not None
            self.setup = replace(setup, config=message.config)
        return message

    def _opening(self, index: int, message: Open) -> Open | None:
        """For a gateway of this machine; None before the first weights are here."""
        assert self.setup is not None
        if self._slot is None:
            name = f"{self._rings[self._gateways[0]].name}_here"
            self._slot = WeightSlot.create(message.size, 0, name)
            rings = [ring.name for ring in self._rings.values()]
            shared_memory.note(self._own(self.setup), [*rings, name])
            self._slot.base_frames = self._elsewhere
            self._traffic = self._traffic_of(self._slot)
        if not self._slot.version:
            return None
        assert self._counters is not None
        return replace(
            message,
            rings=tuple(ring.name for ring in self._rings.values()),
            weights=self._slot.name,
            own=self._gateways.index(index),
            in_flight=str(self._counters.path),
        )

    def up(self, name: str, message: Any) -> Any:
        if isinstance(message, Settled) and self._rings:
            ring = self._rings[int(name.rpartition("-")[2])]
            return replace(message, settled=message.settled and not ring.used)
        return message

    def complete(self, reply: Reply) -> None:
        if self._sockets:
            reply.ports = self._sockets[0].ports
        reply.left, self._left = self._left, {}
        if self._traffic is not None:
            reply.version = self._traffic.version
            reply.weights_age_s = time.monotonic() - self._traffic.version_at
        for index, ring in self._rings.items():
            answered = self._counters.numbers(index) if self._counters else (0, 0)
            kept = ring.steps_read
            reply.rings[index] = RingNumbers(ring.steps, kept, ring.used, ring.capacity, *answered)

    def numbers(self) -> dict[str, Any]:
        ports = [sockets.ports[0] for sockets in self._sockets[:1]]
        unacknowledged = sum(ring.used for ring in list(self._rings.values()))
        return {
            "port": ports[0] if ports else None,
            "unacknowledged": unacknowledged,
            "version": self._traffic.version if self._traffic else 0,
            "trouble": self._traffic.trouble if self._traffic else "",
        }

    def _traffic_of(self, slot: WeightSlot) -> Traffic:
        assert self._spec is not None
        assert self.setup is not None
        memory = self.setup.config.learner.state_size
        shippers = [
            Shipper(ring, self._spec, memory, self._number, self._deliver)
            for ring in self._rings.values()
        ]
        return Traffic(shippers, slot, self._weights)

    # The end.

    def stop_listening(self) -> None:
        """Whoever comes from now on is refused."""
        for sockets in self._sockets:
            sockets.close()
        self._sockets = []

    def _forget(self) -> None:
        if self._traffic is not None:
            self._traffic.close()
        with contextlib.ExitStack() as stack:
            for each in self._shared():
                stack.callback(each.unlink)
                stack.callback(each.close)
        self._rings.clear()
        self._slot, self._counters, self._spec, self._traffic = None, None, None, None

    def _shared(self) -> Iterator[Any]:
        yield from self._rings.values()
        if self._slot is not None:
            yield self._slot

    def close(self) -> None:
        super().close()
        self.stop_listening()
        over = self._nothing_in_flight
        self._forget()
        if over and self.setup is not None:
            remove_folder(self._own(self.setup))

    @property
    def _nothing_in_flight(self) -> bool:
        """All that its gateways have answered for is kept: a later start has nothing to count."""
        counters = self._counters
        return counters is None or all(
            not ring.used and counters.numbers(index) == (ring.steps, 0)
            for index, ring in self._rings.items()
        )

    def _own(self, setup: Setup) -> Path:
        return own_folder("node", self._number, setup)
