"""What several learners report, as one report: each metric as it declares (Metric.merge)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from server.ipc.messages import TrainerReport
from server.monitor.merge import FIRST, LARGEST, SUM, WEIGHTED
from server.monitor.metrics import SERIES


def merged(reports: Sequence[TrainerReport]) -> TrainerReport:
    """One report of those of all learners, the first one's first. A number that is none (NaN) does
    not count."""
    first = reports[0]
    metrics = {name: _merged(name, reports) for name in first.metrics}
    findings = {found.id: found for report in reversed(reports) for found in report.findings}
    for part in ("dqn", "expert"):
        if f"buffer_frac_{part}" in metrics and metrics["buffer_total"]:
            metrics[f"buffer_frac_{part}"] = metrics[f"buffer_{part}"] / metrics["buffer_total"]
    return TrainerReport(metrics, first.lines, list(findings.values()))


def _merged(name: str, reports: Sequence[TrainerReport]) -> float:
    series = SERIES.get(name)
    how = series.metric.merge if series is not None else FIRST
    own = reports[0].metrics[name]
    if how == FIRST:
        return own
    rows = series.value if series is not None else ""
    found = [
        (report.metrics.get(name, math.nan), _rows(report, rows) if how == WEIGHTED else 1.0)
        for report in reports
    ]
    known = [(value, weight) for value, weight in found if not math.isnan(value)]
    if not known:
        return math.nan
    if how == SUM:
        return math.fsum(value for value, _ in known)
    if how == LARGEST:
        return max(value for value, _ in known)
    weight = math.fsum(weight for _, weight in known)
    return math.fsum(v * w for v, w in known) / weight if weight else own


def _rows(report: TrainerReport, actor: str) -> float:
    """The rows of its batches, of an actor or of both: what its means are over."""
    names = [f"batch_n_{actor}"] if actor else ["batch_n_dqn", "batch_n_expert"]
    rows = (report.metrics.get(name, 0.0) for name in names)
    return math.fsum(n for n in rows if not math.isnan(n))
