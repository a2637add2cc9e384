"""Bench of a cluster, on Ray's nodes of this machine: serving beside the embedded server, shipping
of rows, weights in a second node's slot, a killed learner, and several learners beside one.

All but the last runs in a process of its own, in a network of its own where that is allowed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from lab.bench import cluster_model, ranks
from lab.local_ray import in_own_network

Row = dict[str, Any]


def missing() -> str:
    """What is to be installed; empty where nothing is."""
    if find_spec("ray") is not None:
        return ""
    return "cluster: needs ray, which is not installed; pip install -c constraints.txt '.[cluster]'"


def measure(show: Callable[[str], None], *, seconds: float, rounds: int) -> Iterator[Row]:
    """Rows to print, and in the end a model of eight nodes with the costs that were measured."""
    show("cluster, two learners beside one")
    yield from ranks.measure()
    network = in_own_network()
    if not network:
        show("cluster: no network of its own (run as root): Ray's ports are this machine's")
    command = [*network, sys.executable, "-m", "lab.bench.cluster_run", str(seconds), str(rounds)]
    costs: Row = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith("{"):  # Ray says there that the bench has killed something
                show(line.rstrip())
                continue
            row: Row = json.loads(line)
            costs |= row.pop("costs", {})
            yield row
    if process.returncode:
        raise RuntimeError(f"the bench of the cluster ended with {process.returncode}")
    yield from cluster_model.rows(cluster_model.MeasuredCosts(**costs))
