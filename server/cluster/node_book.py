"""What the driver knows of a cluster's nodes: the numbers that their actors have told last."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

from config.models import Config
from server.cluster.actors import gateways_of
from server.cluster.link import ActorLink
from server.cluster.messages import Answered, Elsewhere, Reply
from server.cluster.previous_start import PreviousStart
from server.cluster.remote_ring import RemoteRing
from server.ipc.inflight import InFlight
from server.run.directory import RunDirectory
from server.supervisor.in_flight_account import InFlightAccount

log = logging.getLogger("cluster")

Ports = tuple[int, int | None, int | None]


class NodeBook:
    """Written by the links' threads, read by the supervisor's."""

    def __init__(self, config: Config, in_flight: InFlightAccount, folder: RunDirectory) -> None:
        """`in_flight`: is told what gateways have answered for, and what was lost. `folder`: the
        run's."""
        self._config, self._in_flight = config, in_flight
        self._launch = folder.launch
        self.version = 0
        """The newest weights that any gateway has."""
        self.ports: dict[int, Ports] = {}
        """Where the games of each node connect."""
        self.rings: dict[int, RemoteRing] = {}
        """By gateway, once there is a game."""
        self.base_frames: int | None = None
        """Of the run before this start, once that is known."""
        self._kept: dict[int, int] = {}
        """STEP rows of each gateway that its learner has kept. What it was sent beyond them may be
        lost with it, where both are on one machine."""
        self._losses: list[tuple[int, InFlight]] = []
        """With nodes, by gateway: not counted yet."""
        self._ages: dict[int, float] = {}
        """Of the weights of each node's gateways, s."""
        self.made: dict[int, int] = {}
        """How often each node's actor was made anew in this start."""
        self._before = PreviousStart(folder)
        self._lock = threading.Lock()
        """So that what is lost is counted with a gateway's process, or with its node."""

    # In the links' threads.

    def node_said(self, number: int, reply: Reply) -> Sequence[Any]:
        """Keep a node's numbers; what it is to know of other nodes."""
        if reply.ports is not None:
            self.ports[number] = reply.ports
        self.version = max(self.version, reply.version)
        for index, left in reply.left.items():
            self._left(index, left)
        self._ages[number] = reply.weights_age_s
        for index, numbers in reply.rings.items():
            if (ring := self.rings.get(index)) is not None:
                generation = _generation(reply, f"gateway-{index}")
                ring.told(numbers, generation)
                if generation is not None:
                    self._in_flight.tell(index, ring.completed)
        if self.base_frames is None:
            return ()
        with self._lock:
            self._keep()
        others = sum(
            ring.before if index in reply.rings else ring.steps
            for index, ring in self.rings.items()
        )
        return (Elsewhere(self.base_frames + others),)

    def learner_said(self, reply: Reply) -> Sequence[Any]:
        """Keep what a learner has kept."""
        for index, numbers in reply.rings.items():
            self._kept[index] = numbers.steps
        return ()

    def node_lost(self, number: int) -> None:
        """A node's actor is gone."""
        with self._lock:
            for index in gateways_of(number, self._config):
                if (ring := self.rings.get(index)) is not None:
                    ring.lost(self._kept.get(index, 0))
                    # What is lost is counted once the node is back, or at the end.
                    self._in_flight.tell(index, (ring.steps, 0))

    def _left(self, index: int, left: Answered) -> None:
        """What the actor of a gateway has left that was killed."""
        ring = self.rings.get(index)
        if left.launch != self._launch:
            self._before.found(index, left)
        elif ring is not None and left.made == self._made(index) - 1:
            self._losses.append((index, ring.account(left, self._kept.get(index, 0))))

    def _keep(self) -> None:
        rings = self.rings.items()
        self._before.keep({index: (self._made(index), *ring.newest) for index, ring in rings})

    def _made(self, gateway: int) -> int:
        return self.made.get(gateway // self._config.server.gateways, 0)

    # In the supervisor's.

    def begin(self, base_frames: int) -> None:
        """The run is loaded, with so many frames before this start: say what its nodes have left
        of the start before."""
        self._in_flight.found = self._before.answered
        self.base_frames = base_frames

    def gateway_gone(
        self, index: int, generation: int, count: Callable[[], InFlight | None]
    ) -> InFlight | None:
        """This process of a gateway is gone: `count` what was lost with it, and say so to whoever
        finds its numbers on its node."""
        with self._lock:
            lost = count()
            self.rings[index].process_counted(generation)
            if self.base_frames is not None:
                self._keep()
            return lost

    def count_lost(self, *, at_end: bool = False) -> None:
        """Count what was lost with nodes. `at_end`: also with those that did not come back."""
        if at_end:
            self._losses += [(i, ring.account(None, 0)) for i, ring in self.rings.items()]
        while self._losses:
            index, lost = self._losses.pop(0)
            if lost != InFlight():
                log.error("gateway-%d was lost with its node; %s", index, lost)
                self._in_flight.add(f"gateway-{index}", lost)

    def rows(
        self,
        nodes: Sequence[ActorLink],
        learners: Sequence[ActorLink],
        drained: Collection[int] = (),
    ) -> list[dict[str, Any]]:
        """As Status.nodes, without those that are `drained`."""
        rows: list[dict[str, Any]] = []
        for number, link in enumerate(nodes):
            if number in drained:
                continue
            mine = gateways_of(number, self._config)
            unacknowledged = sum(ring.used for i, ring in self.rings.items() if i in mine)
            port = self.ports[number][0] if number in self.ports else None
            of_node = {"port": port, "unacknowledged": unacknowledged}
            rows.append(_about(link) | of_node | {"weights_age_s": self._ages.get(number)})
        return [*rows, *(_about(link) for link in learners)]


def _generation(reply: Reply, process: str) -> int | None:
    """Of a process that ran when this was said, or has just ended; None where there is none."""
    ended = {name: generation for name, generation, _ in reply.ended}
    return reply.beats[process][0] if process in reply.beats else ended.get(process)


def _about(link: ActorLink) -> dict[str, Any]:
    return {"name": link.name, "host": link.host, "answers": link.answers}
