"""A server on a cluster, for whoever starts one; imported without Ray."""

from __future__ import annotations

from functools import partial
from typing import Any

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
