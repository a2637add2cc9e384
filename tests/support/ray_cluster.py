"""A Ray cluster of two nodes on this machine, each in a network of its own; skipped where there can
be none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from lab.ray_nodes import RayNodes, cannot, ray_nodes

SOON = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1500",
    "RAY_health_check_failure_threshold": "4",
}
"""Nodes whose head is gone end so soon, and one that is not reached for 10 s is given up."""


@contextlib.contextmanager
def ray_cluster() -> Iterator[RayNodes]:
    """Both nodes run."""
    if why := cannot():
        pytest.skip(why)
    with ray_nodes(SOON) as nodes:
        yield nodes
