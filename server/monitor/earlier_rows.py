"""Rows of metrics that earlier revisions wrote, under the names of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED = {"went_back": "rollbacks"}
"""Names in the rows of earlier revisions, and today's."""


def with_current_names(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row that an earlier revision may have written, with the names of today."""
    found = {RENAMED.get(name, name): value for name, value in row.items()}
    if "steps_in_flight" not in found and "transitions_dropped" in found:
        # It was the difference of counters of two moments, steps in flight among it.
        found["transitions_dropped"] = found.get("steps_lost")
    return found
