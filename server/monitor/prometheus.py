"""The metrics as Prometheus wants them.

`td_err_mean_dqn` becomes `understudy_td_err_mean_by_actor{actor="dqn"}`, `errors_bad_token` becomes
`understudy_errors_by_code{code="bad_token"}`, any other NAME `understudy_NAME`. Of each metric it
is the newest value that was a number; one that has had none yet has its HELP and TYPE alone. All
are gauges, those that only grow too: a resumed run goes on with some and begins with others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from server.monitor.metrics import METRICS, family
from server.monitor.status import VERSION, Status

CONTENT_TYPE = CONTENT_TYPE_LATEST

PREFIX = "understudy_"


class _StatusCollector(Collector):
    """A snapshot of the status."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[GaugeMetricFamily | InfoMetricFamily]:
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
            ("started_time", status.started, "when the server was started, seconds since 1970"),
        ):
            gauge = GaugeMetricFamily(PREFIX + name, text)
            gauge.add_metric([], float(value))
            yield gauge
        yield from families(status.last)


def families(last: Mapping[str, float]) -> Iterator[GaugeMetricFamily]:
    """The metrics with these values."""
    for name, (text, members) in _members().items():
        label = next(iter(members))[0]
        found = GaugeMetricFamily(PREFIX + name, text, labels=[label] if label else [])
        for (_, value), metric in members.items():
            if metric in last:
                found.add_metric([value] if label else [], last[metric])
        yield found


@cache
def _members() -> dict[str, tuple[str, dict[tuple[str, str], str]]]:
    """By name: its text, and for each label and value the metric."""
    found: dict[str, tuple[str, dict[tuple[str, str], str]]] = {}
    for metric, (unit, text) in METRICS.items():
        _, label, value = family(metric)
        if label == "actor":
            text = text.removesuffix(f": {value}")
        elif label == "code":
            text = "connections ended with an error, since the start"
        help_text = f"{text} [{unit}]" if unit else text
        found.setdefault(name_of(metric), (help_text, {}))[1][label, value] = metric
    return found


def name_of(metric: str) -> str:
    """Under which Prometheus finds it, without the prefix."""
    name, label, _ = family(metric)
    return f"{name}_by_{label}" if label else name


def exposition(status: Status) -> bytes:
    """The answer of /metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatusCollector(status))
    return generate_latest(registry)
