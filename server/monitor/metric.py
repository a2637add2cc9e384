"""What a metric is: name, unit, kind, label and meaning; and the series that it has in a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from server.monitor.merge import FIRST, Merge

Kind = Literal["counter", "gauge", "histogram"]

COUNTER: Kind = "counter"
"""Only rises, except that it starts at 0 again with the process that counts."""

GAUGE: Kind = "gauge"
"""May fall. What counts the whole run is among these: a run that is resumed from an older
checkpoint goes on with less, and Prometheus would take that for a counter that starts again at 0
and add all of it once more. So is what is corrected downward when a process dies."""

HISTOGRAM: Kind = "histogram"
"""Counts by size. In no row: for Prometheus alone."""


@dataclass(frozen=True, slots=True)
class Label:
    """What tells the series of a metric apart."""

    name: str
    values: Mapping[str, str]
    """Each value, and what it means."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, or one for each value of its label."""

    name: str
    unit: str
    kind: Kind
    help: str
    label: Label | None = None
    merge: Merge = FIRST
    """What several learners' numbers are together (server.monitor.merging)."""

    @property
    def series(self) -> list[Series]:
        """What rows have of it."""
        if self.kind == HISTOGRAM:
            return []
        if self.label is None:
            return [Series(self.name, self, "", self.help)]
        return [
            Series(_in_row(self.name, value), self, value, f"{self.help}: {meaning}")
            for value, meaning in self.label.values.items()
        ]


@dataclass(frozen=True, slots=True)
class Series:
    """One number in a row."""

    name: str
    """In a row."""
    metric: Metric
    value: str
    """Of the metric's label; empty where it has none."""
    help: str


def _in_row(name: str, value: str) -> str:
    """The name in a row of the series with this value of the label."""
    return f"{name}_{value}"


def labeled(name: str, label: Label, numbers: Mapping[str, float]) -> dict[str, float]:
    """A metric's numbers by value of its label, under their names in a row; 0 for those missing."""
    return {_in_row(name, value): float(numbers.get(value, 0)) for value in label.values}
