"""`server.cluster.actors`, and what imports it, with a Ray that is played."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import server.cluster

RAY = ("ray", "ray.exceptions", "ray.util", "ray.util.scheduling_strategies")
OURS = ("actors", "node_book", "processes")


class RayError(Exception):
    """As Ray's."""


class GetTimeoutError(RayError):
    """As Ray's."""


@contextmanager
def played_ray() -> Iterator[tuple[Any, Any]]:
    """Ray, and `server.cluster.actors` that has imported it; both are as before afterwards."""
    ray = MagicMock()
    ray.exceptions = SimpleNamespace(RayError=RayError, GetTimeoutError=GetTimeoutError)
    ours = [f"server.cluster.{name}" for name in OURS]
    before = {name: sys.modules.pop(name, None) for name in (*RAY, *ours)}
    sys.modules |= {"ray": ray, "ray.exceptions": ray.exceptions, "ray.util": ray.util}
    sys.modules["ray.util.scheduling_strategies"] = ray.util.scheduling_strategies
    try:
        yield ray, importlib.import_module("server.cluster.actors")
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
        for name in OURS:
            if (module := before[f"server.cluster.{name}"]) is not None:
                setattr(server.cluster, name, module)
            elif hasattr(server.cluster, name):
                delattr(server.cluster, name)
