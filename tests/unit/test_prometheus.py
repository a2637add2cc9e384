"""What /metrics answers: types, names, labels and the histogram."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from config.models import Config
from server.ipc.turn_buckets import TURN_BUCKETS_S
from server.monitor.collector import TurnHistogram
from server.monitor.metric import COUNTER, HISTOGRAM
from server.monitor.metrics import REGISTRY, SERIES
from server.monitor.prometheus import exposition, name_of
from server.monitor.status import Status

LAST = {name: float(at) for at, name in enumerate(SERIES)}

BUCKETS = tuple(range(0, 2 * len(TURN_BUCKETS_S) + 2, 2))

STATUS = Status(
    config=Config(), folder=Path("/runs/one"), launch=1, started=5.0, looped_at=0.0, port=7777,
    last=LAST, turns=TurnHistogram(BUCKETS, 1.25),
)  # fmt: skip


def families(status: Status = STATUS) -> dict[str, Family]:
    return {f.name: f for f in text_string_to_metric_families(exposition(status).decode())}


def test_exposition_gives_each_metric_its_type() -> None:
    found = families()
    for metric in REGISTRY:
        name = f"understudy_{name_of(metric)}"
        assert found[name.removesuffix("_total")].type == metric.kind, name
        assert name.endswith("_total") == (metric.kind == COUNTER)


def test_exposition_gives_each_series_its_value_and_label() -> None:
    found = families()
    for metric in REGISTRY:
        if metric.kind == HISTOGRAM:
            continue
        name = f"understudy_{name_of(metric)}"
        samples = found[name.removesuffix("_total")].samples
        assert [(s.name, s.labels, s.value) for s in samples] == [
            (name, {metric.label.name: each.value} if metric.label else {}, LAST[each.name])
            for each in metric.series
        ]


def test_exposition_has_what_the_game_names_as_labels() -> None:
    numbers = {"reward_part/dqn/a/b": 1.5, "reward_part/expert/a/b": 2.5, 'game_peak/gold "x"': 7.0}
    found = families(replace(STATUS, last=LAST | numbers))
    parts = found["understudy_reward_part"].samples
    assert [(s.labels, s.value) for s in parts] == [
        ({"actor": "dqn", "part": "a/b"}, 1.5), ({"actor": "expert", "part": "a/b"}, 2.5)
    ]  # fmt: skip
    (peak,) = found["understudy_game_peak"].samples
    assert (peak.labels, peak.value) == ({"name": 'gold "x"'}, 7.0)


def test_exposition_of_metric_without_value_has_type_only() -> None:
    found = families(replace(STATUS, last={}))
    assert found["understudy_loss"].samples == []
    assert found["understudy_stalls"].type == "counter"


def test_exposition_has_each_warning_that_holds_by_its_id() -> None:
    assert families()["understudy_warning_holds"].samples == []
    holds = families(replace(STATUS, warnings=({"id": 'head_dead_"x"\n', "text": "t"},)))
    (sample,) = holds["understudy_warning_holds"].samples
    assert (sample.labels, sample.value) == ({"id": 'head_dead_"x"\n'}, 1.0)


def test_exposition_of_turn_seconds_is_a_histogram() -> None:
    samples = families()["understudy_turn_seconds"].samples
    buckets = {s.labels["le"]: s.value for s in samples if s.name.endswith("_bucket")}
    assert [float(bound) for bound in buckets] == [*TURN_BUCKETS_S, float("inf")]
    assert tuple(buckets.values()) == BUCKETS
    assert [(s.name, s.value) for s in samples if not s.name.endswith("_bucket")] == [
        ("understudy_turn_seconds_count", BUCKETS[-1]),
        ("understudy_turn_seconds_sum", 1.25),
    ]


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool: apt install prometheus")
def test_exposition_passes_promtool_check() -> None:
    ran = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition(STATUS), capture_output=True, check=False
    )
    said = ran.stderr.decode().splitlines()
    # It would have base units only, written out; names in rows have them as they are.
    assert [line for line in said if "abbreviated units" not in line] == []
