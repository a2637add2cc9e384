"""The processes of a server on the nodes of a cluster: what the supervisor has in place of those of
its own machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection as Pipe
from typing import Any

from config.load import ConfigError
from config.models import Config
from config.passing import TryAgain
from protocol.spaces import GameSpec
from server.cluster.actors import Cluster, gateways_of
from server.cluster.draining import Draining
from server.cluster.learners import Learners
from server.cluster.link import ActorLink
from server.cluster.messages import Decide, Forget, Setup, StopListening
from server.cluster.node_book import NodeBook
from server.cluster.remote_child import RemoteChild
from server.cluster.remote_ring import RemoteRing
from server.ipc.inflight import InFlight
from server.ipc.messages import GATEWAY, TRAINER, GameDecided, Ready
from server.run.directory import RunDirectory
from server.run.events import EventLog
from server.supervisor.child import Child
from server.supervisor.processes import Processes, ProcessLoss
from server.trainer.task import Task

log = logging.getLogger("cluster")

HANDED_OVER_S = 2.0
"""How long rows that gateways leave may be on their way to the learners."""


class ClusterProcesses(Processes):
    """Gateways and trainer on other machines, each run by an actor there."""

    def __init__(
        self,
        cluster: Cluster,
        config: Config,
        folder: RunDirectory,
        task: Task,
        events: EventLog,
        on_started: Callable[[Child], None],
    ) -> None:
        super().__init__(everywhere(config), folder, task, events, on_started)
        self.config = config
        self._cluster = cluster
        self._nodes: list[ActorLink] = []
        self._shards: list[ActorLink] = []
        book = self._book = NodeBook(config, self._in_flight, folder)
        places: list[Child] = []
        for number in range(config.cluster.gateways):
            link = ActorLink(
                f"gateway node {number}",
                partial(cluster.exchange, "node", number),
                partial(self._setup, number),
                partial(book.node_said, number),
                partial(book.node_lost, number),
            )
            self._nodes.append(link)
            for index in gateways_of(number, config):
                child = RemoteChild(f"gateway-{index}", GATEWAY, link.order)
                link.children[child.name] = child
                places.append(child)
        trainers: list[RemoteChild] = []
        for rank in range(config.cluster.learners):
            exchange = partial(cluster.exchange, "shard", rank)
            link = ActorLink(
                f"learner {rank}", exchange, partial(self._setup, None), book.learner_said
            )
            self._shards.append(link)
            child = RemoteChild(TRAINER, TRAINER, link.order)
            link.children[child.name] = child
            trainers.append(child)
        alone = len(trainers) == 1
        first = self._shards[0]
        self._draining = Draining(
            self._nodes,
            lambda node: [self.gateways[index] for index in gateways_of(node, config)],
            lambda node: [book.rings[i] for i in gateways_of(node, config) if i in book.rings],
            self._end_node,
        )
        self._trainer = trainers[0] if alone else Learners(trainers, lambda: first.host)
        self.gateways, self.trainer = places, self._trainer
        self.children = [*places, self._trainer]

    # Starting.

    def start(self) -> tuple[int, int | None, int | None]:
        """Have the actors made, and all children started. Errors: ConfigError."""
        config = self.config
        self._cluster.place(config, f"{self._folder.path.name}-{self._folder.launch}")
        for link in self._links:
            link.start()
        until = time.monotonic() + config.cluster.start_timeout_s
        while len(self._book.ports) < len(self._nodes) or not all(
            link.host for link in self._shards
        ):
            for link in self._links:
                if link.error:
                    raise ConfigError(f"{link.name} on {link.host}: {link.error}")
            if time.monotonic() > until:
                missing = [link.name for link in self._links if not link.host]
                raise TryAgain(
                    f"expected all nodes to answer within cluster.start_timeout_s = "
                    f"{config.cluster.start_timeout_s:g} s, {', '.join(missing) or 'one'} did not; "
                    "look at `ray status`, or allow more time"
                )
            time.sleep(0.05)
        for child in self.children:
            self._start(child)
        for link, number in zip(self._nodes, sorted(self._book.ports), strict=True):
            log.info("games connect to %s:%d", link.host, self._book.ports[number][0])
        return self._book.ports[0]

    @property
    def _links(self) -> list[ActorLink]:
        return [*self._serving, *self._shards]

    @property
    def _serving(self) -> list[ActorLink]:
        drained = self._draining.ended
        return [link for number, link in enumerate(self._nodes) if number not in drained]

    def _setup(self, node: int | None, times: int) -> Sequence[Any]:
        """What an actor is told first. `node`: which one it is, if it is one."""
        config = everywhere(self.config)
        if node in self._book.ports:  # games come back to where they were
            config = _listening_on(config, self._book.ports[node])
        if node is not None:
            self._book.made[node] = times
        folder = str(self._folder.path.absolute())  # actors have working directories of their own
        orders: list[Any] = [Setup(config, folder, self._folder.launch, times)]
        if self._spec is not None:
            orders.append(Decide(self._spec))
        if node is not None and node in self._draining:
            orders.append(StopListening())
        return orders

    def _start(self, child: Child) -> None:
        config = everywhere(self.config)
        if child.kind == TRAINER:
            task = self._task
            if self.ready is not None:  # the run has begun: its rows are in its folder
                task = replace(task, resume=True, best=False, init_from=None)
            self._trainer.begin(config, task)
            if self._spec is not None:
                child.send(self._game())
        else:
            assert isinstance(child, RemoteChild)
            child.begin(config)
            if self.ready is not None:
                child.send(self._opening(self.ready))
        self._events.add("process_started", process=child.name, pid=child.pid)
        self._on_started(child)

    def decide(self, spec: GameSpec) -> None:
        self._spec = spec
        for index in range(len(self.gateways)):
            ring = self._book.rings[index] = RemoteRing(self.config.server.ring_steps)
            self.rings.append(ring)  # type: ignore[arg-type]
        for link in self._links:
            link.order(Decide(spec))
        self.trainer.send(self._game())

    def opened(self, ready: Ready) -> bool:
        if self.ready is None:
            self._book.begin(ready.base_frames)
        return super().opened(ready)

    def forget_game(self) -> None:
        for link in self._links:
            link.order(Forget())
        self._book.rings.clear()
        super().forget_game()

    def _game(self) -> GameDecided:
        return replace(super()._game(), rings=(), version=self._book.version)

    # Running.

    @property
    def waitables(self) -> tuple[dict[Pipe, Child], dict[int, Child]]:
        pipes, ends = super().waitables
        if not isinstance(self._trainer, Learners) or not self._trainer.alive:
            return pipes, ends
        own = self._trainer
        for rank in own.ranks:
            if rank.pipe is not None and rank.process is not None:
                pipes[rank.pipe] = own
                ends[rank.process.sentinel] = own
        return pipes, ends

    @property
    def lost(self) -> InFlight:
        self._book.count_lost()
        return super().lost

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """As Status.nodes."""
        return self._book.rows(self._nodes, self._shards, self._draining.ended)

    @property
    def attentive(self) -> dict[str, int]:
        """Of this machine: none."""
        return {}

    def hung(self) -> list[tuple[Child, str]]:
        for link in self._links:
            if not link.answers:  # what runs there may be well: Ray, or the link, finds out
                for child in link.children.values():
                    if child.alive:
                        child.monitor.forget(time.monotonic())
        return super().hung()

    def _gateway_gone(self, index: int) -> InFlight | None:
        child = self.gateways[index]
        assert isinstance(child, RemoteChild)
        count = partial(super()._gateway_gone, index)
        return self._book.gateway_gone(index, child.generation, count)

    def start_due(self) -> list[tuple[Child, ProcessLoss]]:
        self._draining.look()
        return super().start_due()

    def drain(self, node: str) -> dict[str, Any]:
        return dict(self._draining.begin(node))

    def _end_node(self, number: int) -> None:
        self._nodes[number].close()
        self._cluster.end("node", number)

    # Stopping.

    def stop_listening(self) -> None:
        for link in self._serving:
            link.order(StopListening())

    def wake(self) -> None:
        """Processes of other machines are not this one's to wake."""

    def end_gateways(
        self, reported: Set[int], deadline: float, listen: Callable[[Child], None]
    ) -> None:
        super().end_gateways(reported, deadline, listen)
        until = time.monotonic() + HANDED_OVER_S
        while self._rows_waiting and self.trainer.alive and time.monotonic() < until:
            time.sleep(0.02)
            listen(self.trainer)

    def close(self) -> None:
        for link in self._links:
            link.close()
        self._book.count_lost(at_end=True)
        self._cluster.close()
        super().close()


def _listening_on(config: Config, ports: tuple[int, int | None, int | None]) -> Config:
    games, tempest, websocket = ports
    server = config.server.model_copy(update={"port": games, "websocket_port": websocket})
    older = config.tempest.model_copy(update={"port": tempest})
    return config.model_copy(update={"server": server, "tempest": older})


def everywhere(config: Config) -> Config:
    """As gateways are told it: server.gateways are those of all nodes together."""
    all_of_them = config.server.gateways * config.cluster.gateways
    server = config.server.model_copy(update={"gateways": all_of_them})
    return config.model_copy(update={"server": server})
