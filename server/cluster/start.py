"""A server on a cluster, for whoever starts one; imported without Ray."""

from __future__ import annotations

from functools import partial
from typing import Any

from config.models import Config
from protocol.spaces import GameSpec
from server.supervisor.processes import ProcessesOf


def on_cluster(address: str) -> ProcessesOf:
    """What starts processes on the nodes of the cluster at this address, which is joined. Errors:
    ConfigError where Ray is not installed, or no cluster runs there."""
    from server.cluster.actors import Cluster  # which needs the extra
    from server.cluster.processes import ClusterProcesses

    return partial(ClusterProcesses, Cluster(address))


def cluster_status(address: str) -> dict[str, Any]:
    """`nodes` of the cluster at this address, and `actors` that servers have there. Errors:
    ConfigError."""
    from server.cluster.actors import about

    return about(address)


def measure_learners(address: str, config: Config, spec: GameSpec) -> dict[str, Any]:
    """Whether more learners than one pay on the cluster at this address: `costs`
    (server.cluster.scaling_cost.Costs), `hosts`, `pays`, and a `sentence`. Errors: ConfigError."""
    from dataclasses import asdict

    from server.cluster.actors import Cluster

    cluster = Cluster(address)
    try:
        costs, hosts = cluster.measure(config, spec)
    finally:
        cluster.close()
    return {
        "costs": asdict(costs),
        "hosts": hosts,
        "pays": costs.pays,
        "sentence": costs.sentence(),
    }
