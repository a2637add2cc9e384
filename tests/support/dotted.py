"""Settings as keyword arguments: `server__port=0` is the key `server.port`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dotted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values by key, of values by the name of a keyword argument."""
    return {name.replace("__", "."): value for name, value in settings.items()}
