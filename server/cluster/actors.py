"""What is Ray's: placement, actors, calls. No other module imports it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import signal
import socket
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from config.load import ConfigError
from config.models import Config
from config.passing import TryAgain
from protocol.spaces import GameSpec
from server.cluster import authentication
from server.cluster.gateway_node import GatewayNode
from server.cluster.host import send_signal
from server.cluster.learner_shard import LearnerShard
from server.cluster.learners import PORTS
from server.cluster.link import ActorAway
from server.cluster.messages import Delivery, Receipt, Reply
from server.ipc.heartbeat import LONG_S
from server.ipc.messages import Ranks
from server.signals import handlers_kept

if TYPE_CHECKING:
    from server.cluster.scaling_cost import Costs

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

try:
    import ray
    from ray import exceptions
    from ray.util import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import (
        NodeAffinitySchedulingStrategy,
        PlacementGroupSchedulingStrategy,
    )
except ModuleNotFoundError as error:
    if error.name != "ray":
        raise
    raise ConfigError(
        "--cluster needs the package ray, which is not installed; run "
        "`pip install -c constraints.txt '.[cluster]'` on every node"
    ) from None

log = logging.getLogger("cluster")

CALL_S = 5.0
"""How long a reply is waited for before it is asked whether the run ends."""

LOST_S = 60.0
"""A call between actors without a reply for so long is made again."""

NAMESPACE = "understudy"
"""Of the actors' names."""

ANSWER_S = 5.0
"""How long the head, or an actor that is not stopped, may take to answer at all."""

THREADS = 32
"""Calls that an actor answers at a time."""


class Guarded:
    """An actor that can say whether strangers could use its node."""

    def token(self) -> tuple[str, bool]:
        """Where it is, and whether Ray asks for a token there."""
        return _here()[0], authentication.asks_for_token()


class ShardActor(Guarded, LearnerShard):
    """A learner that says where Ray has put it."""

    def __init__(self, rank: int, gateways: tuple[int, ...]) -> None:
        super().__init__(rank, gateways)
        self.host, self.node = _here()


class NodeActor(Guarded, GatewayNode):
    """A gateway node that reaches its learners through Ray."""

    def __init__(
        self, number: int, gateways: tuple[int, ...], learner: str, first_learner: str
    ) -> None:
        """`learner`: the name of the actor that the rows belong to."""
        super().__init__(number, gateways, self._ship_to, self._fetch)
        self.host, self.node = _here()
        self._learner, self._first_learner = ray.get_actor(learner), ray.get_actor(first_learner)

    def _ship_to(self, delivery: Delivery) -> Receipt:
        receipt: Receipt = ray.get(self._learner.deliver.remote(delivery), timeout=LOST_S)
        return receipt

    def _fetch(self, have: int, wait_s: float) -> Any:
        asked = self._first_learner.weights.remote(have, wait_s)
        return ray.get(asked, timeout=wait_s + LOST_S)


class MeasuringActor(Guarded):
    """A place where a learner would be, for `Cluster.measure`."""

    def host(self) -> str:
        """Of this machine."""
        return _here()[0]

    def measure(self, ranks: Ranks, config: Config, spec: GameSpec) -> Costs:
        """As scaling_cost.measure."""
        from server.cluster import scaling_cost  # torch, which costs the other actors seconds

        os.environ.pop("OMP_NUM_THREADS", None)  # Ray's
        return scaling_cost.measure(ranks, config, spec)

    def close(self) -> None:
        """Nothing of it is left."""


def gateways_of(node: int, config: Config) -> tuple[int, ...]:
    """The numbers of a node's gateways."""
    each = config.server.gateways
    return tuple(range(node * each, (node + 1) * each))


def connect(address: str) -> None:
    """Join a running cluster. `address`: HOST:PORT of its head, or auto: that of this machine.
    Errors: ConfigError."""
    if ray.is_initialized():
        return
    try:
        if address != "auto":  # Ray itself tries for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), ANSWER_S).close()
        with handlers_kept():  # Ray's would end this process at once, with an exit code of its own
            ray.init(
                address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False
            )
    except (OSError, RuntimeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise TryAgain(
            f"--cluster {address}: expected a running Ray cluster, got none ({lines[0]}); start "
            "one with `ray start --head` here, or name HOST:PORT of its head"
        ) from None


def about(address: str) -> dict[str, Any]:
    """The nodes of a cluster, and the actors of this server's kind there. Errors: ConfigError."""
    connect(address)
    nodes = [
        {
            "host": node["NodeManagerAddress"],
            "alive": node["Alive"],
            "has": _shown(node["Resources"]),
        }
        for node in ray.nodes()
    ]
    actors = []
    for named in ray.util.list_named_actors(all_namespaces=True):
        if named["namespace"] == NAMESPACE:
            try:
                actor = ray.get_actor(named["name"], NAMESPACE)
                said = ray.get(actor.about.remote(), timeout=CALL_S)
            except (ValueError, exceptions.RayError, exceptions.GetTimeoutError) as error:
                said = {"error": str(error).strip().splitlines()[0]}
            actors.append({"name": named["name"], **said})
    return {"nodes": nodes, "actors": actors}


class Cluster:
    """The actors of one server."""

    def __init__(self, address: str) -> None:
        """Joins the cluster. Errors: ConfigError."""
        connect(address)
        self._actors: dict[tuple[str, int], Any] = {}
        self._groups: list[Any] = []
        self._seen: dict[tuple[str, int], tuple[str, int]] = {}
        """The node of Ray and the process of each actor, as it said last."""
        self._looks: dict[tuple[str, int], list[Any]] = {}
        """Of actors that do not answer: whether their node does."""
        self._hang_s = math.inf
        self._closing = False

    def place(self, config: Config, run: str) -> None:
        """Have the actors made, each on a node with room for it. `run`: names them. Errors:
        ConfigError where there is not room for all, or strangers may use the cluster."""
        self._guard(config)
        nodes, learners = config.cluster.gateways, config.cluster.learners
        self._hang_s = config.supervision.hang_timeout_s
        serve = self._group([{"CPU": 1.0}] * nodes, "STRICT_SPREAD", config, "cluster.gateways")
        learn = self._learning(config)
        names = [f"{run}-learner-{rank}" for rank in range(learners)]
        for rank, name in enumerate(names):
            own = [gateways_of(node, config) for node in range(rank, nodes, learners)]
            wanted = {"num_gpus": config.cluster.gpus_per_learner, "name": name}
            self._make("shard", ShardActor, learn, rank, wanted, rank, sum(own, ()))
        for node in range(nodes):
            own_learner = names[node % learners]
            wanted = {"name": f"{run}-node-{node}"}
            args = node, gateways_of(node, config), own_learner, names[0]
            self._make("node", NodeActor, serve, node, wanted, *args)
        self._guard_nodes(config)

    def measure(self, config: Config, spec: GameSpec) -> tuple[Costs, list[str]]:
        """What an update costs that the learners share, beside one of one learner; and the hosts
        that they would be on. Errors: ConfigError where there is not room for all, or one fails, or
        strangers may use the cluster."""
        self._guard(config)
        learners = config.cluster.learners
        group = self._learning(config)
        for rank in range(learners):
            wanted = {"num_gpus": config.cluster.gpus_per_learner}
            self._make("measuring", MeasuringActor, group, rank, wanted)
        self._guard_nodes(config)
        there = [self._actors["measuring", rank] for rank in range(learners)]
        settings = config.cluster
        try:
            hosts = ray.get([each.host.remote() for each in there])
            port = random.choice(PORTS)
            ranks = [
                Ranks(hosts[0], port, rank, learners, settings.rank_timeout_s)
                for rank in range(learners)
            ]
            asked = [
                each.measure.remote(where, config, spec)
                for each, where in zip(there, ranks, strict=True)
            ]
            return ray.get(asked)[0], hosts
        except exceptions.RayError as error:
            last = str(error).strip().splitlines()[-1]
            raise TryAgain(f"expected {learners} learners to measure, one failed: {last}") from None

    def _guard(self, config: Config) -> None:
        """Before anything is made: see whether this server has a token, if it needs one. Errors:
        ConfigError."""
        here = () if authentication.asks_for_token() else ("this server",)
        for reminder in authentication.check(config, _machines(), here):
            log.warning("%s", reminder)

    def _guard_nodes(self, config: Config) -> None:
        """Once the actors are made: the same of their nodes. Errors: ConfigError, also where one
        cannot be made."""
        if not authentication.asks_for_token():  # then all was said before
            return
        wait_s = config.cluster.start_timeout_s
        asked = [actor.token.remote() for actor in self._actors.values()]
        done, silent = ray.wait(asked, num_returns=len(asked), timeout=wait_s)
        try:
            told = ray.get(done)
        except exceptions.RayError as error:
            last = str(error).strip().splitlines()[-1]
            raise ConfigError(
                f"expected understudy to start on every node, on one it did not: {last}; install "
                "the same versions of understudy, Python and Ray on all nodes "
                "(`pip install -c constraints.txt '.[cluster]'`)"
            ) from None
        if silent:
            raise TryAgain(
                f"expected all nodes to answer within cluster.start_timeout_s = {wait_s:g} s, "
                f"{len(silent)} did not; look at `ray status`, or allow more time"
            )
        authentication.check(config, _machines(), [host for host, asks in told if not asks])

    def _learning(self, config: Config) -> Any:
        """Room for the learners. Errors: ConfigError."""
        each = {"CPU": 1.0}
        if config.cluster.gpus_per_learner:
            each["GPU"] = config.cluster.gpus_per_learner
        return self._group([each] * config.cluster.learners, "SPREAD", config, "cluster.learners")

    def _make(
        self, kind: str, what: type, group: Any, number: int, wanted: dict[str, Any], *args: Any
    ) -> None:
        place = PlacementGroupSchedulingStrategy(group, number)
        options = {"num_cpus": 1, "max_restarts": -1, "max_concurrency": THREADS, **wanted}
        made = ray.remote(what).options(scheduling_strategy=place, **options).remote(*args)
        self._actors[kind, number] = made

    def _group(
        self, bundles: list[dict[str, float]], strategy: str, config: Config, setting: str
    ) -> Any:
        """Resources for actors. Errors: ConfigError."""
        group = placement_group(bundles, strategy=strategy)
        self._groups.append(group)
        try:
            ray.get(group.ready(), timeout=config.cluster.start_timeout_s)
        except exceptions.GetTimeoutError:
            there = "; ".join(
                f"{node['NodeManagerAddress']}: {_shown(node['Resources'])}"
                for node in ray.nodes() if node["Alive"]
            )  # fmt: skip
            apart = ", each on a node of its own" if strategy == "STRICT_SPREAD" else ""
            raise TryAgain(
                f"{setting}: expected a cluster with room for {len(bundles)} times "
                f"{_shown(bundles[0])}{apart}, got {there}, some of which may be in use; lower "
                f"{setting}, or start more nodes"
            ) from None
        return group

    def exchange(
        self, kind: str, number: int, to: str, nth: int, orders: Sequence[Any], wait_s: float
    ) -> Reply:
        """As ProcessHost.exchange, of an actor by kind and number. Errors: ActorAway."""
        place = kind, number
        begin = time.monotonic()
        try:
            asked = self._actors[place].exchange.remote(to, nth, orders, wait_s)
            while not self._closing:
                done, _ = ray.wait([asked], timeout=CALL_S)
                if done:
                    reply: Reply = ray.get(asked)
                    self._seen[place] = reply.node, reply.pid
                    self._looks.pop(place, None)
                    return reply
                if time.monotonic() - begin > self._hang_s and place in self._seen:
                    self._end_hung(place, asked, time.monotonic() - begin > LONG_S)
        except exceptions.RayError as error:
            raise ActorAway(str(error).strip().splitlines()[0]) from None
        raise ActorAway("the run ends")

    def _end_hung(self, place: tuple[str, int], asked: Any, long: bool) -> None:
        """End an actor that answers nothing, though its machine does; Ray makes it anew. One that
        merely takes long over what it was asked has `long` for it. A machine that does not answer
        is Ray's to judge: what runs there may go on. Errors: RayError."""
        if not long and ray.wait([self._actors[place].present.remote()], timeout=ANSWER_S)[0]:
            return
        if place not in self._looks:
            self._looks[place] = self._signalled(place, 0)
        if not ray.wait(self._looks[place], timeout=ANSWER_S)[0]:
            return
        # A link may have been down, and this way to the machine may be the last to work again.
        until = time.monotonic() + self._hang_s
        while time.monotonic() < until and not self._closing:
            if ray.wait([asked], timeout=CALL_S)[0]:
                return
        log.error("an actor gave no sign of life for %.0f s; it is killed", self._hang_s)
        del self._looks[place]
        ray.wait(self._signalled(place, signal.SIGKILL), timeout=LOST_S)

    def _signalled(self, place: tuple[str, int], number: int) -> list[Any]:
        """Have an actor's process sent a signal on its machine: by other actors there, which answer
        at once, and by a task, for which a process is started. Of each what ray.wait takes."""
        node, pid = self._seen[place]
        others = [each for each, (where, _) in list(self._seen.items()) if where == node]
        asked = [
            self._actors[other].send_signal.remote(pid, number)
            for other in others if other != place and other in self._actors
        ]  # fmt: skip
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        task = ray.remote(num_cpus=0, max_retries=0)(send_signal)
        return [*asked, task.options(scheduling_strategy=there).remote(pid, number)]

    def end(self, kind: str, number: int) -> None:
        """End an actor for good."""
        _end([self._actors.pop((kind, number))])

    def close(self) -> None:
        """End all actors."""
        self._closing = True
        _end(self._actors.values())
        for group in self._groups:
            with contextlib.suppress(Exception):
                remove_placement_group(group)
        self._actors.clear()
        self._groups.clear()


def _end(actors: Collection[Any]) -> None:
    """End actors in order, so that they leave nothing on their machines; or by force."""
    asked = [actor.close.remote() for actor in actors]
    with contextlib.suppress(Exception):
        ray.wait(asked, num_returns=len(asked), timeout=CALL_S)
    for actor in actors:
        with contextlib.suppress(Exception):
            ray.kill(actor)


def _here() -> tuple[str, str]:
    """Where other machines reach this one, and Ray's name for it."""
    return ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id()


def _machines() -> set[str]:
    """The addresses of the cluster's nodes."""
    return {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


def _shown(resources: dict[str, float]) -> str:
    wanted = {name: n for name, n in resources.items() if name in ("CPU", "GPU")}
    return " and ".join(f"{n:g} {name}" for name, n in wanted.items()) or "no CPU"
