"""What a server gives Prometheus: each name with its labels, read from the exposition itself."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from config.models import Config
from server.monitor.metrics import SERIES
from server.monitor.prometheus import exposition
from server.monitor.status import Status

ANY = "any"
"""The value of a label that may have any (the id of a warning)."""


def exposed() -> dict[str, dict[str, set[str]]]:
    """Metric to label to its values, of a server that has all numbers and a warning."""
    status = Status(
        config=Config(), folder=Path("/runs/one"), launch=1, started=5.0, looped_at=0.0, port=7777,
        last=dict.fromkeys(SERIES, 1.0), warnings=({"id": ANY},),
    )  # fmt: skip
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(exposition(status).decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found
