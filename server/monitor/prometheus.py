"""The metrics in Prometheus' text format: the answer of /metrics.

A gauge NAME is `understudy_NAME`, a counter `understudy_NAME_total`. One with a label stands beside
the one of all together, so it says by what: `understudy_td_err_mean_by_actor{actor="dqn"}`,
`understudy_errors_by_code_total{code="bad_token"}`. Each has its newest value that was a number;
one that has had none yet has only its HELP and TYPE.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from server.ipc.turn_buckets import TURN_BUCKETS_S
from server.monitor.game_metrics import HELP, PART, is_game_metric, parsed
from server.monitor.metric import COUNTER, HISTOGRAM, Metric
from server.monitor.metrics import REGISTRY, SERIES
from server.monitor.status import VERSION, Status

CONTENT_TYPE = CONTENT_TYPE_LATEST

PREFIX = "understudy_"

Family = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily | InfoMetricFamily


def name_of(metric: Metric) -> str:
    """The metric's name in queries, without the prefix."""
    name = f"{metric.name}_by_{metric.label.name}" if metric.label else metric.name
    # The suffix says that it is a counter, so the gauge buffer_total goes without.
    return f"{name}_total" if metric.kind == COUNTER else name.removesuffix("_total")


NAMES = {name: name_of(series.metric) for name, series in SERIES.items()}
"""From names in a row."""


class _StatusCollector(Collector):
    """Yields what a snapshot of the status has."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Family]:
        status = self._status
        info = InfoMetricFamily(PREFIX + "run", "the run that is served")
        info.add_metric(
            [],
            {
                "name": status.name,
                "game": status.spec.game if status.spec else "",
                "version": VERSION,
            },
        )
        yield info
        for name, value, text in (
            ("healthy", not status.problem, "1 while /healthz answers 200"),
            ("ready", not status.unready, "1 while /readyz answers 200"),
            ("degraded", bool(status.degraded), "1 while a process does not report"),
            ("started_time", status.started, "start of the server, seconds since 1970"),
        ):
            gauge = GaugeMetricFamily(PREFIX + name, text)
            gauge.add_metric([], float(value))
            yield gauge
        holds = GaugeMetricFamily(
            PREFIX + "warning_holds", "1 while this warning holds", labels=["id"]
        )
        for warning in status.warnings:
            holds.add_metric([warning["id"]], 1.0)
        yield holds
        yield from _of_game(status.last)
        for metric in REGISTRY:
            yield (
                _turns(metric, status) if metric.kind == HISTOGRAM else family(metric, status.last)
            )


def _of_game(last: Mapping[str, float]) -> Iterator[Family]:
    """What the game names itself: the names are labels."""
    found = {
        family: GaugeMetricFamily(
            PREFIX + family, text, labels=["actor", "part"] if family == PART else ["name"]
        )
        for family, text in HELP.items()
    }
    for name in filter(is_game_metric, last):
        metric = parsed(name)
        labels = [metric.actor, metric.name] if metric.actor else [metric.name]
        found[metric.family].add_metric(labels, last[name])
    yield from found.values()


def family(metric: Metric, last: Mapping[str, float]) -> GaugeMetricFamily | CounterMetricFamily:
    """A metric with all its series, of these values by name in a row."""
    labels = [metric.label.name] if metric.label else []
    kind = CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily
    found = kind(PREFIX + name_of(metric), _help(metric), labels=labels)
    for series in metric.series:
        if series.name in last:
            found.add_metric([series.value] if labels else [], last[series.name])
    return found


def _turns(metric: Metric, status: Status) -> HistogramMetricFamily:
    bounds = [*(f"{bound:g}" for bound in TURN_BUCKETS_S), "+Inf"]
    return HistogramMetricFamily(
        PREFIX + name_of(metric),
        _help(metric),
        buckets=list(zip(bounds, status.turns.buckets, strict=True)),
        sum_value=status.turns.seconds,
    )


def _help(metric: Metric) -> str:
    return f"{metric.help} [{metric.unit}]" if metric.unit else metric.help


def exposition(status: Status) -> bytes:
    """The answer of /metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatusCollector(status))
    return generate_latest(registry)
